"""How many points of a program a slot is given at once."""

from collections.abc import Sequence

from normjax.sweep.plan import Point


class Lists:
  """Their sizes: as asked, less where that was too many."""

  def __init__(self, most: int):
    """Of every program `most`, so far."""
    self._most = most
    self._most_of: dict[str, int] = {}

  def most(self, program: str) -> int:
    """At most so many points of a program."""
    return self._most_of.get(program, self._most)

  def size(self, program: str, num_left: int, num_slots: int) -> int:
    """So many that no slot waits while another has several.

    Args:
      program: of the points.
      num_left: points of the stage that are not over.
      num_slots: that share them.
    """
    share = -(-num_left // num_slots)
    return max(1, min(self.most(program), share))

  def halve(self, points: Sequence[Point], message: str) -> str:
    """Makes lists of a program shorter than these points; says so.

    Args:
      points: of a list that met something, as the end of memory.
      message: what that was.
    """
    program = points[0].program
    self._most_of[program] = most = -(-len(points) // 2)
    return (
      f"{message} A slot had {len(points)} points; from here on it has {most}"
      " of this program at once."
    )
