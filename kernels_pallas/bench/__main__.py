"""The command: see `kernels_pallas.bench`."""

import argparse
import datetime
import itertools
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

import kernels_pallas
from kernels_pallas import aot
from kernels_pallas.bench import compiled, flags, passes, peers, timed

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
  arguments.target = flags.known("--target", arguments.target, aot.TARGETS)
  arguments.op = flags.known("--op", arguments.op, kernels_pallas.OPS)
  ours = [_implementations(name, arguments) for name in arguments.op]
  # An op may lack one that another has.
  arguments.impl = arguments.impl and flags.known(
    "--impl", arguments.impl, dict.fromkeys(itertools.chain(*ours))
  )
  if arguments.repeats < 1:
    raise flags.refused(f"--repeats={arguments.repeats}: 1 or more.")
  if arguments.compile_only:
    flags.check_compilers(arguments.target)
  if arguments.out:
    flags.check_out(Path(arguments.out))
  return arguments


def _implementations(
  name: str, arguments: argparse.Namespace
) -> tuple[str, ...]:
  """Ours, and where there is a clock those of others."""
  others = () if arguments.compile_only else peers.of(name)
  return (*passes.implementations(name), *others)


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
    known = _implementations(name, arguments)
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
      flags.write(Path(arguments.out), facts, records)
  flags.show(kind.COLUMNS, kind.row, records)
  if not arguments.compile_only and device.platform == "cpu":
    print("Timed on a CPU: this says that the benchmark runs, no more.")
  return int(any(record.get("failed") for record in records))


if __name__ == "__main__":
  sys.exit(main())
