"""Measures this project's own speed and prints tables of ratios."""

from absl import flags

from normjax import bench

USAGE = f"bench [{'|'.join(bench.names())}]"


def define_flags(values: flags.FlagValues) -> None:
  """No flags of its own."""


def run(
  positional: list[str], overrides: list[str], values: flags.FlagValues
) -> int:
  """Runs the named benchmarks, or all."""
  del overrides, values
  benchmarks = [bench.get(name) for name in positional or bench.names()]
  from rich.console import Console

  for benchmark in benchmarks:
    benchmark(Console())
  return 0
