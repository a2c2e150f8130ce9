"""Faults as people are told them: each once, however many runs it hit."""

from collections.abc import Iterable
from typing import NamedTuple


class Failure(NamedTuple):
  """What went wrong with one run, or one method.

  Attributes:
    name: of what it hit, in words.
    message: what went wrong.
    run_id: of the run; the same message about two runs may hold their ids.
  """

  name: str
  message: str
  run_id: str = ""

  @property
  def fault(self) -> str:
    """The message, whichever run it is about."""
    if not self.run_id:
      return self.message
    return self.message.replace(self.run_id, "<run id>")


def told(failures: Iterable[Failure], what: str = "points") -> list[str]:
  """A line per fault, as in "12 points: out of memory; first: dyt seed 1".

  Args:
    failures: in order.
    what: was hit, in the plural.
  """
  groups: dict[str, list[Failure]] = {}
  for failure in failures:
    groups.setdefault(failure.fault, []).append(failure)
  return [
    f"{own[0].name}: {own[0].message}"
    if len(own) == 1
    else f"{len(own)} {what}: {fault.rstrip('.')}; first: {own[0].name}"
    for fault, own in groups.items()
  ]
