"""Writes and prints the report of a sweep directory, from its files."""

from absl import flags

from normjax import escape
from normjax.commands import arguments

USAGE = "report DIR"


def define_flags(values: flags.FlagValues) -> None:
  """No flags of its own."""


def run(
  positional: list[str], overrides: list[str], values: flags.FlagValues
) -> int:
  """Works for a sweep that is still running, too."""
  del overrides, values
  given = arguments.one(positional, "sweep directory", USAGE)
  out = arguments.folder("DIR", given)
  from normjax import report

  paths = report.write_and_print(out)
  print(escape.lines(f"report: {paths.html}"))
  return 0
