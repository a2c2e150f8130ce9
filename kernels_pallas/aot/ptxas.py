"""What NVIDIA's assembler says of Mosaic GPU kernels, as they are compiled."""

import contextlib
import dataclasses
import os
import re
import sys
import tempfile
from collections.abc import Iterator

_SWITCH = "MOSAIC_GPU_DUMP_PTXAS"
_KERNEL = re.compile(
  r"Compiling entry function '(?P<name>[^']+)'.*?"
  r"(?P<spilled>\d+) bytes spill stores.*?"
  r"Used (?P<registers>\d+) registers",
  re.DOTALL,
)


@dataclasses.dataclass(frozen=True)
class Report:
  """Of one kernel: registers per thread, and bytes stored for want of them."""

  name: str
  registers: int
  spilled_bytes: int


def parse(text: str) -> list[Report]:
  """The kernels of the assembler's report."""
  return [
    Report(found["name"], int(found["registers"]), int(found["spilled"]))
    for found in _KERNEL.finditer(text)
  ]


@contextlib.contextmanager
def reported() -> Iterator[list[Report]]:
  """Fills the list with the kernels compiled in the block, at its end.

  The compiler writes to the process's standard output and error, whatever
  Python holds in their place; other words of it are passed on.
  """
  reports: list[Report] = []
  before = os.environ.get(_SWITCH)
  os.environ[_SWITCH] = "1"
  sys.stdout.flush()
  sys.stderr.flush()
  kept = os.dup(1), os.dup(2)
  with tempfile.TemporaryFile() as file:
    os.dup2(file.fileno(), 1)
    os.dup2(file.fileno(), 2)
    try:
      yield reports
    finally:
      sys.stdout.flush()
      sys.stderr.flush()
      for number, copy in enumerate(kept, start=1):
        os.dup2(copy, number)
        os.close(copy)
      if before is None:
        del os.environ[_SWITCH]
      else:
        os.environ[_SWITCH] = before
      file.seek(0)
      text = file.read().decode(errors="replace")
      reports += parse(text)
      other = [line for line in text.splitlines() if not _is_report(line)]
      if other:
        print(*other, sep="\n", file=sys.stderr)


def _is_report(line: str) -> bool:
  return not line.strip() or line.startswith(("ptxas ", "    "))
