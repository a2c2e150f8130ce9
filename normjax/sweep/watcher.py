"""What a launcher tells people while it works."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from normjax.sweep.plan import Point

if TYPE_CHECKING:
  from normjax.sweep.launch import Launcher


class Watcher(Protocol):
  """Is told what a sweep's people want to see."""

  def note(self, text: str) -> None:
    """Something that people should know."""
    ...

  def over(
    self, point: Point, result: Mapping[str, Any], wall_s: float
  ) -> None:
    """A point has its result."""
    ...

  def failed(self, point: Point, message: str, again: bool) -> None:
    """A point failed, and whether it is tried again."""
    ...

  def tick(self, launcher: "Launcher") -> None:
    """Some time has passed."""
    ...
