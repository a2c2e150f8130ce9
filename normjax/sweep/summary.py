"""How a sweep ended, for its caller and for people."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from normjax.record import failures
from normjax.record.durations import seconds
from normjax.sweep import progress
from normjax.sweep.plan import Plan

INTERRUPTED = 130


@dataclasses.dataclass(frozen=True)
class Summary:
  """How a sweep ended.

  Attributes:
    out: its directory.
    plan: the last.
    num_done: points with a result that did not diverge.
    num_diverged: points that diverged.
    num_ran: of these, how many this call ran.
    failed: message by run id, of the points that failed for good.
    interrupted: a signal ended it; the same call goes on.
    wall_s: of this call.
    notes: in what the folder's earlier runs differ.
    chosen: of a part of a sweep, how many of its points are over, and how many
      it has; None where all were to be run.
  """

  out: Path
  plan: Plan
  num_done: int
  num_diverged: int
  num_ran: int
  failed: Mapping[str, str]
  interrupted: bool
  wall_s: float
  notes: tuple[str, ...] = ()
  chosen: tuple[int, int] | None = None

  @property
  def exit_code(self) -> int:
    """0: every point has a result; 1: some failed; 130: interrupted."""
    return INTERRUPTED if self.interrupted else int(bool(self.failed))

  def text(
    self,
    *,
    with_failures: bool = True,
    choosing: str = "--methods and --seeds",
  ) -> str:
    """One paragraph for people.

    Args:
      with_failures: whether to say what failed, where nobody else does.
      choosing: the flags that chose a part of the sweep.
    """
    over = self.num_done + self.num_diverged
    parts = [
      f"{over} of {self.plan.num_points} points over"
      f" ({self.num_diverged} diverged), {self.num_ran} of them now, in"
      f" {seconds(self.wall_s)}: {self.out}"
    ]
    if with_failures:
      parts += [f"failed: {line}" for line in self._failures()]
    parts += [f"note: {text}" for text in self.notes]
    edges = list(filter(None, (m.edges() for m in self.plan.methods)))
    if edges:
      parts.append(f"best value on the edge of its grid: {', '.join(edges)}")
    if self.chosen is not None:
      over, count = self.chosen
      parts.append(
        f"of the {count} points that were chosen {over} are over; without"
        f" {choosing} the same command runs the rest"
      )
    if self.interrupted:
      parts.append("interrupted; the same command goes on from here")
    elif self.failed:
      count = len(self.failed)
      parts.append(
        f"{count} point{'s' * (count > 1)} failed; the same command tries"
        f" {'them' if count > 1 else 'it'} again"
      )
    return "\n".join(parts)

  def _failures(self) -> list[str]:
    """A line per fault."""
    points = {point.run_id: point for point in self.plan.points}
    return failures.told(
      failures.Failure(
        f"{progress.describe(points[run_id])} ({run_id})"
        if run_id in points
        else run_id,
        message,
        run_id,
      )
      for run_id, message in self.failed.items()
    )
