"""The command: see `kernels_pallas.bench`."""

import argparse
import datetime
import itertools
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

import kernels_pallas
from kernels_pallas import aot
from kernels_pallas.bench import compiled, passes, timed

_Record = Mapping[str, Any]


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
  parser = argparse.ArgumentParser("python -m kernels_pallas.bench")
  parser.add_argument(
    "--compile-only", action="store_true", help="for chips that are not here"
  )
  for flag, default, what in (
    ("--target", ",".join(aot.TARGETS), "compile-only: for which, by commas"),
    ("--op", ",".join(kernels_pallas.OPS), "which, by commas"),
    ("--impl", "", "which implementations, by commas; none for all"),
    ("--out", "", "a JSON file, written after each record"),
  ):
    parser.add_argument(flag, default=default, help=what)
  parser.add_argument("--repeats", type=int, default=20, help="calls timed")
  parser.add_argument(
    "--tiny",
    action="store_true",
    help="the op's smallest arguments, two calls: to see that it runs",
  )
  arguments = parser.parse_args(given)
  arguments.target = _known("--target", arguments.target, aot.TARGETS)
  arguments.op = _known("--op", arguments.op, kernels_pallas.OPS)
  ours = [passes.implementations(name) for name in arguments.op]
  # An op may lack one that another has.
  arguments.impl = arguments.impl and _known(
    "--impl", arguments.impl, dict.fromkeys(itertools.chain(*ours))
  )
  if arguments.repeats < 1:
    raise _refused(f"--repeats={arguments.repeats}: 1 or more.")
  for target in arguments.target if arguments.compile_only else ():
    reason = aot.missing(target)
    if reason is not None:
      raise _refused(f"--target={target}: {reason}")
  if arguments.out:
    _check_out(Path(arguments.out))
  return arguments


def _known(flag: str, text: str, known: Iterable[str]) -> list[str]:
  names = text.split(",")
  unknown = [name or "''" for name in names if name not in known]
  if unknown:
    raise _refused(
      f"{flag}={text}: no {', '.join(unknown)}; known: {', '.join(known)}."
    )
  return names


def _refused(text: str) -> SystemExit:
  """Exit code 2, after one line."""
  print(text, file=sys.stderr)
  return SystemExit(2)


def _check_out(path: Path) -> None:
  """Before hours of measuring, not after."""
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
      raise IsADirectoryError(0, "it is a folder")
    with tempfile.TemporaryFile(dir=path.parent):
      pass
  except OSError as error:
    raise _refused(
      f"--out={path}: cannot write it: {error.strerror}."
    ) from None


def _records(arguments: argparse.Namespace) -> Iterable[_Record]:
  """Of all that was asked for, as they come."""
  repeats = 2 if arguments.tiny else arguments.repeats
  small = {"size_bytes": 2**16} if arguments.tiny else {}
  copy_rate = (
    0 if arguments.compile_only else timed.copy_bytes_per_s(repeats, **small)
  )
  for name in arguments.op:
    specs = passes.specs(name)
    if arguments.tiny:
      specs = sorted(specs, key=lambda spec: spec.ideal_bytes)[:1]
    known = passes.implementations(name)
    implementations = [
      impl for impl in arguments.impl or known if impl in known
    ]
    for spec in specs:
      if not arguments.compile_only:
        rotated = {"rotated_bytes": 0} if arguments.tiny else {}
        yield from timed.measure(
          name, spec, implementations, repeats, copy_rate, **rotated
        )
        continue
      for target in arguments.target:
        for impl in implementations:
          yield from compiled.measure(name, spec, target, impl)


def _write(path: Path, facts: _Record, records: Sequence[_Record]) -> None:
  """Whole or not at all, so that what was there is not lost."""
  path.parent.mkdir(parents=True, exist_ok=True)
  new = path.with_name(path.name + ".new")
  new.write_text(json.dumps({**facts, "results": records}, indent=1) + "\n")
  new.replace(path)


def _show(
  columns: Sequence[str],
  row: Callable[[_Record], Sequence[str]],
  records: Sequence[_Record],
) -> None:
  lines = [columns, *(row(each) for each in records if "error" not in each)]
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  for line in lines:
    cells = zip(line, widths, strict=True)
    print("  ".join(cell.ljust(width) for cell, width in cells).rstrip())
  for text in dict.fromkeys(e["error"] for e in records if "error" in e):
    print(text)


def main(given: Sequence[str] | None = None) -> int:
  """Measures, prints the table, and writes what `--out` names.

  Returns:
    1 if an implementation failed that said it would serve, else 0.
  """
  arguments = _arguments(given)
  kind = compiled if arguments.compile_only else timed
  if arguments.compile_only:
    jax.config.update("jax_platforms", "cpu")
  device = jax.devices()[0]
  facts = {
    "device": None if arguments.compile_only else device.device_kind,
    "date": datetime.date.today().isoformat(),
    "jax": jax.__version__,
  }
  records: list[_Record] = []
  for record in _records(arguments):
    records.append(record)
    if arguments.out:
      _write(Path(arguments.out), facts, records)
  _show(kind.COLUMNS, kind.row, records)
  if not arguments.compile_only and device.platform == "cpu":
    print("Timed on a CPU: this says that the benchmark runs, no more.")
  return int(any(record.get("failed") for record in records))


if __name__ == "__main__":
  sys.exit(main())
