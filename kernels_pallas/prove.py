"""Runs the contract of kernels on the device here, and keeps what passed.

    python -m kernels_pallas.prove [--op=rms_norm]

A kernel that passes all checks on all samples becomes a default on devices of
this kind: commit the file of `results`, which is written after each op. Exit
code 1: one failed, and the file says nothing of it, nor any more.
"""

import argparse
import datetime
import sys
from collections.abc import Sequence

import jax

from kernels_pallas import OPS, contract, device_file, dispatch, proved


def main(arguments: Sequence[str] | None = None) -> int:
  """The command; returns its exit code."""
  parser = argparse.ArgumentParser(
    prog="python -m kernels_pallas.prove",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--op", choices=sorted(OPS), help="one; without it all")
  asked = parser.parse_args(arguments).op
  kind = dispatch.target().device_kind
  found, any_failed = False, False
  for op in [asked] if asked else sorted(OPS):
    passed, failed = prove([op])
    found, any_failed = found or bool(passed or failed), any_failed or failed
    # After each: what stops the next takes nothing away.
    try:
      file = proved.keep(kind, passed, failed)
    except OSError as error:
      where = error.filename or device_file.path(kind)
      print(f"cannot write {where}: {error.strerror}.", file=sys.stderr)
      return 2
    if passed:
      print(f"wrote {file}", flush=True)
  if not found:
    print(f"No kernel of {asked or 'any op'} is for {kind}.", file=sys.stderr)
    return 2
  return 1 if any_failed else 0


def prove(
  ops: Sequence[str],
) -> tuple[dict[str, dict[str, str]], list[str]]:
  """Proofs of the kernels that passed, and the names of those that did not.

  Args:
    ops: their names.
  """
  passed, failed = {}, []
  for op in ops:
    cases: dict[str, list[contract.Case]] = {}
    for case in contract.on_device(op):
      cases.setdefault(case.name, []).append(case)
    for name, its in cases.items():
      if all([_passes(case) for case in its]):
        passed[f"{op}/{name}"] = {
          **proved.of(its[0].candidate.function),
          "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        }
        kind = dispatch.target().device_kind
        if tiles := proved.tiles_of(op, name, kind):
          passed[f"{op}/{name}"]["tiles"] = tiles
      else:
        failed.append(f"{op}/{name}")
  return passed, failed


def _passes(case: contract.Case) -> bool:
  is_plainest = case.sample.spec is case.sample.contract.specs[0]
  checks = contract.CHECKS if is_plainest else ("values",)
  fine = True
  for check in checks:
    try:
      # As models are traced; a device's own default may be too rough.
      with jax.default_matmul_precision("float32"):
        contract.CHECKS[check](case)
      said = "passed"
    # Whatever a compiler or a device raises is a check that did not pass.
    except Exception as error:
      fine, said = False, f"{type(error).__name__}: {error}"
    print(f"{case.sample.op.name} {case} {check}: {said}", flush=True)
  return fine


if __name__ == "__main__":
  sys.exit(main())
