"""The command: see `kernels_pallas.tune`."""

import argparse
import datetime
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

import kernels_pallas
from kernels_pallas import aot, device_file, dispatch, tuned
from kernels_pallas.bench import flags, passes
from kernels_pallas.tune import search, subjects
from kernels_pallas.tune.search import Option
from kernels_pallas.tune.subjects import Subject

_COLUMNS = (
  "kernel", "arguments", "target", "tile", "registers", "spilled B", "MB", "µs",
  "",
)  # fmt: skip
_TINY_OPTIONS = 2


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
  parser = argparse.ArgumentParser("python -m kernels_pallas.tune")
  ops = ",".join(kernels_pallas.OPS)
  for flag, default, what in (
    ("--op", ops, "which, by commas"),
    ("--spec", "", "only arguments whose name has this in it, as 4096"),
    (
      "--target",
      "",
      "compile only, for these chips, by commas: " + ", ".join(aot.TARGETS),
    ),
    ("--out", "", "a JSON file with every tile, written after each pass"),
  ):
    parser.add_argument(flag, default=default, help=what)
  parser.add_argument("--repeats", type=int, default=20, help="calls timed")
  parser.add_argument(
    "--tiny",
    action="store_true",
    help="interpreted, smallest arguments, two tiles: to see that it runs",
  )
  arguments = parser.parse_args(given)
  arguments.op = flags.known("--op", arguments.op, kernels_pallas.OPS)
  arguments.target = arguments.target and flags.known(
    "--target", arguments.target, aot.TARGETS
  )
  if arguments.tiny and arguments.target:
    raise flags.refused("--tiny compiles for no --target; leave one out.")
  if arguments.repeats < 1:
    raise flags.refused(f"--repeats={arguments.repeats}: 1 or more.")
  names = [spec.name for op in arguments.op for spec in passes.specs(op)]
  if not any(arguments.spec in name for name in names):
    raise flags.refused(
      f"--spec={arguments.spec}: in no name of arguments;"
      f" known: {', '.join(dict.fromkeys(names)) or 'none'}."
    )
  flags.check_compilers(arguments.target)
  if arguments.out:
    flags.check_out(Path(arguments.out))
  return arguments


def _found(
  arguments: argparse.Namespace, subject: Subject, target: str | None
) -> Iterator[list[Option]]:
  """The tiles of each pass of a subject, as they are known."""
  if arguments.target and target:
    with aot.abstract(target):
      asks = search.asks(subject.make)
    for which, ask in asks:
      yield search.pruned(subject.make, which, ask, target)
    return
  for which, ask in search.asks(subject.make):
    rotation = {}
    if arguments.tiny:
      options = [Option(ask, which, tile) for tile in ask.options()]
      options, rotation = options[:_TINY_OPTIONS], {"rotated_bytes": 0}
    elif target and aot.missing(target) is None:
      options = search.pruned(subject.make, which, ask, target)
    else:
      options = [Option(ask, which, tile) for tile in ask.options()]
    repeats = 2 if arguments.tiny else arguments.repeats
    yield [*search.time_all(subject.make, options, repeats, **rotation)]


def _row(record: flags.Record) -> Sequence[str]:
  tile = " ".join(f"{k}={v}" for k, v in record["tile"].items())
  notes = [record.get("pruned", "")]
  notes += ["computed"] * record["computed"] + ["kept"] * record["kept"]
  median_s, moved = record.get("median_s"), record.get("bytes")
  return (
    record["key"],
    record["spec"],
    record["target"] or "here",
    tile,
    str(record.get("registers") or ""),
    str(record.get("spilled_bytes", "")),
    "" if moved is None else f"{moved / 1e6:.0f}",
    "" if median_s is None else f"{1e6 * median_s:.1f}",
    ", ".join(filter(None, notes)),
  )


def _here() -> str | None:
  """The target that this machine's device is."""
  kind = jax.devices()[0].device_kind
  found = (n for n, chip in aot.TARGETS.items() if chip.device_kind == kind)
  return next(found, None)


def _say_none(
  arguments: argparse.Namespace, where: str, reasons: Sequence[str]
) -> None:
  """One line, and on a chip why each kernel refuses what was asked for."""
  what = ", ".join(arguments.op)
  if arguments.spec:
    what += f" on {arguments.spec}"
  remedy = "--target compiles for a chip that is not here"
  print(f"No tile of {what} to time on {where}; {remedy}.", file=sys.stderr)
  for reason in dict.fromkeys(reasons):
    print(reason, file=sys.stderr)


def _records(
  arguments: argparse.Namespace,
  targets: Sequence[str | None],
  refused: list[str],
) -> Iterator[list[dict[str, Any]]]:
  """Those of a pass at a time; what a device has timed is kept before.

  Args:
    arguments: of the command.
    targets: chips to compile for.
    refused: gets the reasons of kernels that do not serve.
  """
  keeps = not arguments.target and not arguments.tiny
  found = (
    subjects.tiny(arguments.op)
    if arguments.tiny
    else subjects.every(arguments.op, arguments.spec)
  )
  for subject, target in itertools.product(found, targets):
    about = {"op": subject.op, "impl": subject.impl, "spec": subject.spec}
    try:
      for options in _found(arguments, subject, target):
        best = search.fastest(options) if keeps else None
        if keeps:
          _keep(options, best)
        yield [
          {**about, "target": target, "kept": each is best, **each.record()}
          for each in options
        ]
    except dispatch.UnsupportedError as error:
      refused.append(f"{subject.spec}: {error}")


def _keep(options: Sequence[Option], best: Option | None) -> None:
  """A tile that is faster; else none, of an earlier search neither."""
  ask, kind = options[0].ask, jax.devices()[0].device_kind
  tuned.keep(kind, ask.candidate, ask.key, best and best.tile, _today())


def _today() -> str:
  return datetime.datetime.now(datetime.UTC).date().isoformat()


def main(given: Sequence[str] | None = None) -> int:
  """Searches, prints the tiles, and keeps those that are faster.

  Returns:
    2 where there is no kernel for this device, a file cannot be written, or
    what a compiler needs is missing.
  """
  arguments = _arguments(given)
  if arguments.target:
    jax.config.update("jax_platforms", "cpu")
  device = jax.devices()[0]
  facts = {
    "device": None if arguments.target else device.device_kind,
    "date": _today(),
    "jax": jax.__version__,
  }
  records: list[dict[str, Any]] = []
  refused: list[str] = []
  try:
    for some in _records(arguments, arguments.target or [_here()], refused):
      records += some
      if arguments.out:
        flags.write(Path(arguments.out), facts, records)
  except aot.MissingError as error:
    print(error, file=sys.stderr)
    return 2
  except OSError as error:
    where = error.filename or device_file.path(device.device_kind)
    print(f"cannot write {where}: {error.strerror}.", file=sys.stderr)
    return 2
  if not records:
    where = ", ".join(arguments.target) or device.device_kind
    _say_none(arguments, where, () if device.platform == "cpu" else refused)
    return 2
  _show(arguments, records)
  return 0


def _show(
  arguments: argparse.Namespace, records: Sequence[flags.Record]
) -> None:
  """The tiles that were not pruned, and what comes next."""
  left = [record for record in records if "pruned" not in record]
  flags.show(_COLUMNS, _row, left)
  if len(left) < len(records):
    print(
      f"{len(records) - len(left)} of {len(records)} tiles were pruned; --out"
      " names them and why."
    )
  if arguments.tiny:
    print("Interpreted: this says that the search runs, no more.")
  elif any(record["kept"] for record in records):
    print(
      f"wrote {device_file.path(jax.devices()[0].device_kind)}; now prove the"
      " kernels: python -m kernels_pallas.prove"
    )


if __name__ == "__main__":
  sys.exit(main())
