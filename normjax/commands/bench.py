"""Measures this project's own speed and prints tables of ratios.

`optim` times one update of every optimizer beside its peers, all on the same
leaves, round by round. The PyTorch peers run in an interpreter of their own.
"""

from absl import flags

from normjax import bench

USAGE = f"bench [{'|'.join(bench.names())}]"


def define_flags(values: flags.FlagValues) -> None:
  """All belong to the benchmark `optim`."""
  flags.DEFINE_list(
    "methods", [], "Optimizers; none for all.", flag_values=values
  )
  flags.DEFINE_bool(
    "peers", True, "Whether PyTorch peers are measured too.", flag_values=values
  )
  flags.DEFINE_string(
    "peer_python",
    None,
    "The interpreter that has them; by default this one.",
    flag_values=values,
  )
  for name, default, what in (
    ("repeats", 7, "Rounds, at most."),
    ("budget_s", 4, "Seconds a peer; three rounds are made anyway."),
    ("num_layers", 12, "Layers of the model whose leaves are updated."),
    ("model_dim", 512, "Its width."),
    ("hidden_dim", 1376, "Of its feed-forward."),
    ("vocab_size", 4096, "Rows of its embedding."),
  ):
    flags.DEFINE_integer(name, default, what, lower_bound=1, flag_values=values)
  flags.DEFINE_string(
    "out", None, "Folder of optim.json and optim.md.", flag_values=values
  )


def run(
  positional: list[str], overrides: list[str], values: flags.FlagValues
) -> int:
  """Runs the named benchmarks, or all."""
  del overrides
  benchmarks = [bench.get(name) for name in positional or bench.names()]
  from rich.console import Console

  for benchmark in benchmarks:
    benchmark(Console(), values.flag_values_dict())
  return 0
