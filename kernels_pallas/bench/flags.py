"""What the commands `bench` and `tune` share: flags, a table, a file."""

import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kernels_pallas import aot

Record = Mapping[str, Any]


def known(flag: str, text: str, allowed: Iterable[str]) -> list[str]:
  """The names in a flag's text, by commas; refused if one is unknown."""
  names = text.split(",")
  unknown = [name or "''" for name in names if name not in allowed]
  if unknown:
    raise refused(
      f"{flag}={text}: no {', '.join(unknown)}; known: {', '.join(allowed)}."
    )
  return names


def refused(text: str) -> SystemExit:
  """Exit code 2, after one line."""
  print(text, file=sys.stderr)
  return SystemExit(2)


def check_compilers(targets: Iterable[str]) -> None:
  """Refused where what compiles for a target is not installed."""
  for target in targets:
    reason = aot.missing(target)
    if reason is not None:
      raise refused(f"--target={target}: {reason}")


def check_out(path: Path) -> None:
  """Before hours of measuring, not after."""
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
      raise IsADirectoryError(0, "it is a folder")
    with tempfile.TemporaryFile(dir=path.parent):
      pass
  except OSError as error:
    raise refused(f"--out={path}: cannot write it: {error.strerror}.") from None


def write(path: Path, facts: Record, records: Sequence[Record]) -> None:
  """Whole or not at all, so that what was there is not lost."""
  path.parent.mkdir(parents=True, exist_ok=True)
  new = path.with_name(path.name + ".new")
  new.write_text(json.dumps({**facts, "results": records}, indent=1) + "\n")
  new.replace(path)


def show(
  columns: Sequence[str],
  row: Callable[[Record], Sequence[str]],
  records: Sequence[Record],
) -> None:
  """Prints a table of the records without an error, then the errors."""
  lines = [columns, *(row(each) for each in records if "error" not in each)]
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  for line in lines:
    cells = zip(line, widths, strict=True)
    print("  ".join(cell.ljust(width) for cell, width in cells).rstrip())
  for text in dict.fromkeys(e["error"] for e in records if "error" in e):
    print(text)
