"""`python -m normjax.simulate`: the error of a sweep's protocol.

Without options, the tables of `docs/guides/trust.md`; with `--methods` and
`--seeds`, one sentence on a sweep of that size.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from normjax import errors
from normjax.simulate import protocol, sweeps, tables


def main(arguments: Sequence[str] | None = None) -> int:
  """Prints; returns the exit code."""
  try:
    options = vars(_parser().parse_args(arguments))
    own = {name: value for name, value in options.items() if value is not None}
    count = {"sweeps": own.pop("sweeps")} if "sweeps" in own else {}
    if own:
      print(_sentence(own, **count))
    else:
      for name, table in tables.tables(**count):
        print(f"{name}:\n\n{table}\n", flush=True)
  except errors.UserError as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  return 0


def _sentence(own: dict[str, Any], **count: int) -> str:
  missing = [f"--{name}" for name in ("methods", "seeds") if name not in own]
  if missing:
    raise errors.UserError(f"{' and '.join(missing)} must be given, too.")
  return str(sweeps.run(protocol.Protocol(**own), **count))


class _Parser(argparse.ArgumentParser):
  """One line for bad input, as everywhere."""

  def error(self, message: str) -> NoReturn:
    """Raises it, for `main` to tell."""
    raise errors.UserError(message)


def _parser() -> argparse.ArgumentParser:
  parser = _Parser(prog="python -m normjax.simulate", description=__doc__)
  add = parser.add_argument
  add("--methods", type=int, help="that are compared, the baseline too")
  add("--seeds", type=int, help="final runs per method")
  add("--values", type=int, help="of the first grid (3)")
  add("--factor", type=float, help="between its values (3)")
  add("--tuning", choices=protocol.TUNINGS, help="(per_seed)")
  add("--tuning_seeds", type=int, help="of shared tuning (1)")
  add(
    "--second_pass",
    action=argparse.BooleanOptionalAction,
    help="two more trials around the best (yes)",
  )
  add("--max_extensions", type=int, help="of the grids (2)")
  add("--search", choices=protocol.SEARCHES, help="(grid)")
  add("--sweeps", type=int, help="how many are simulated")
  return parser


if __name__ == "__main__":
  sys.exit(main())
