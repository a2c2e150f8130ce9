"""`<out>/spent.json`: what a table's runs took, over all calls.

A call that is killed leaves nothing here; then less runs are counted than are
there, and how long they took is not known. So it is of a file that is damaged:
what was measured does not depend on it.
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
    runs: that ended.
    cpu_s: of this process and the workers.
    wall_s: on the clock.
  """

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
  if not isinstance(found, Mapping) or sorted(found) != sorted(names):
    return Count()
  numbers = [found[name] for name in names]
  are_numbers = all(type(each) in (int, float) for each in numbers)
  return Count(*numbers) if are_numbers else Count()


@contextlib.contextmanager
def counted(out: Path) -> Iterator[Count]:
  """Adds what a block takes to the file, unless the block runs nothing.

  Yields:
    What is to be told how many runs ended.
  """
  count, cpu_s, start_s = Count(), _cpu_s(), time.monotonic()
  yield count
  if count.runs:
    before = read(out)
    now = Count(
      before.runs + count.runs,
      before.cpu_s + _cpu_s() - cpu_s,
      before.wall_s + time.monotonic() - start_s,
    )
    files.write_json(out / FILE, vars(now))


def _cpu_s() -> float:
  """Of this process and of those that it waited for."""
  used = map(
    resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
  )
  return sum(each.ru_utime + each.ru_stime for each in used)
