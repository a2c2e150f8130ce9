"""`<out>/spent.json`: what a table's runs took, over all calls.

A call that is killed has begun here and not ended; how long all took is then
not known. Nor is it where the file is damaged: no value depends on it.
"""

import contextlib
import dataclasses
import resource
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from normjax import errors
from normjax.record import files

FILE = "spent.json"


@dataclasses.dataclass
class Count:
  """What was spent.

  Attributes:
    begun: calls that ran something, or were killed.
    ended: those that were not killed.
    runs: that ended.
    cpu_s: of this process and the workers.
    wall_s: on the clock.
  """

  begun: int = 0
  ended: int = 0
  runs: int = 0
  cpu_s: float = 0.0
  wall_s: float = 0.0


def read(out: Path) -> Count:
  """Of all calls until now; nothing where the file is damaged."""
  try:
    found = files.read_json(out / FILE)
  except (errors.RunError, OSError):
    return Count()
  names = [field.name for field in dataclasses.fields(Count)]
  if isinstance(found, Mapping):  # Earlier versions did not count calls.
    found = {"begun": 0, "ended": 0, **found}
  if not isinstance(found, Mapping) or sorted(found) != sorted(names):
    return Count()
  numbers = [found[name] for name in names]
  are_numbers = all(type(each) in (int, float) for each in numbers)
  return Count(*numbers) if are_numbers else Count()


@contextlib.contextmanager
def counted(out: Path) -> Iterator[Count]:
  """Adds what a block takes to the file, unless the block runs nothing.

  Yields:
    What is to be told how many runs ended; of runs that are to go on, that it
    was `begun`.
  """
  count, cpu_s, start_s = Count(), _cpu_s(), time.monotonic()
  before = read(out)
  begun = dataclasses.replace(before, begun=before.begun + 1)
  files.write_json(out / FILE, vars(begun))
  try:
    yield count
  finally:
    now = before
    if count.runs or count.begun:
      now = Count(
        begun.begun,
        before.ended + 1,
        before.runs + count.runs,
        before.cpu_s + _cpu_s() - cpu_s,
        before.wall_s + time.monotonic() - start_s,
      )
    with contextlib.suppress(OSError):  # Then it has not ended.
      files.write_json(out / FILE, vars(now))


def _cpu_s() -> float:
  """Of this process and of those that it waited for."""
  used = map(
    resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
  )
  return sum(each.ru_utime + each.ru_stime for each in used)
