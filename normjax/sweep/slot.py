"""What a launcher knows of a slot of its executor."""

import dataclasses
import time
from collections.abc import Sequence

from normjax.sweep.plan import Point


@dataclasses.dataclass
class Slot:
  """What the launcher knows of a slot of its executor.

  Attributes:
    ready: whether it has started.
    ending: whether a run of it was interrupted: it takes no more.
    program: of the points that it was given last.
    compiled: the programs that it has compiled.
    points: those that it was given and that have not ended, by run id.
    begun: of these, the run ids of those that have begun.
    since_s: when it was given points, or the last of them began; monotonic.
  """

  ready: bool = False
  ending: bool = False
  program: str | None = None
  compiled: set[str] = dataclasses.field(default_factory=set)
  points: dict[str, Point] = dataclasses.field(default_factory=dict)
  begun: list[str] = dataclasses.field(default_factory=list)
  since_s: float = 0.0

  @property
  def idle(self) -> bool:
    """Whether it waits for points."""
    return self.ready and not self.ending and not self.points

  def give(self, points: Sequence[Point]) -> None:
    """Notes that it was given points."""
    self.points = {point.run_id: point for point in points}
    self.begun = []
    self.program = points[0].program
    self.since_s = time.monotonic()

  def blamed(self) -> list[Point]:
    """The points that its end is put down to: those begun, or the first.

    One at least, so that a slot that never gets as far as to begin anything
    is not tried for ever.
    """
    return [self.points[i] for i in self.begun] or [*self.points.values()][:1]
