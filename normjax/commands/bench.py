"""Measures this project's own speed and prints tables of ratios.

`optim` times one update of every optimizer beside its peers, all on the same
leaves; `norms` the forward and backward pass of every norm; `models` the
training step of a LLaMA or a ResNet; `conv_norm` a ResNet's in each mode of its
convolutions and norms; `adapt` a step of each method of test-time adaptation,
beside a plain forward pass; `lean` updates with few bits, and steps with small
factors, from losses alone and of single blocks; `equivalence` a GPT-2 of
Pre-LN, Pre-RMSNorm and Pre-CRMSNorm, which are one function. `data` how fast
batches come. They take turns, round by round. The PyTorch peers run in an
interpreter of their own.

`sweep` times what a sweep costs beside its runs, planning and reports, and
points per hour against a process per point: the quick start, twice.

`gpu` is a first look at an accelerator, by stages, within --budget_s.

`compiled` runs nothing: it compiles norms, optimizers' updates and training
steps for accelerators that need not be here, and counts bytes. It needs the
extra `aot`; all of it takes an hour or more, so name what is wanted.

`memory SWEEP_FILE` compiles each method of a sweep at the size that the file's
`large()` says, for one --target, and says the bytes of its parameters, state
and temporaries. A second call goes on where the first one stopped.
"""

from absl import flags

from normjax import bench
from normjax.commands import arguments

USAGE = f"bench [{'|'.join(bench.names())}]"
_OF_SWEEP_USAGE = f"bench {'|'.join(bench.OF_SWEEP)} SWEEP_FILE"


def define_flags(values: flags.FlagValues) -> None:
  """The benchmark `train` reads none of them."""
  for name, default, what in (
    (
      "methods",
      "",
      "optim, compiled: optimizers; adapt: methods; memory: labels of the"
      " sweep; none for all.",
    ),
    ("norms", "", "norms, compiled: which; none for all."),
    ("target", "h200", "compiled, memory: of h200, v5e, v6e."),
    ("subjects", "norms,optim,steps", "compiled: which of these."),
    (
      "steps",
      "",
      "compiled: training steps of llama_60m, gpt2_small, vit_small, resnet50;"
      " none for all.",
    ),
    ("precisions", "bfloat16", "compiled: of steps; float32, bfloat16."),
    (
      "measures",
      "",
      "sweep: of overhead, plan, replan, report, throughput; none for all.",
    ),
    (
      "parts",
      "",
      "lean: of update, linear_256, linear_512, zeroth_order, blocks; none for"
      " all.",
    ),
    ("shape", "", "norms: of x; none for the family's."),
    ("images", "64,32,32,3", "conv_norm, adapt: of the batch, (b, y, x, c)."),
    (
      "stages",
      "",
      "gpu: of device, contract, kernels, steps, optimizers, populations,"
      " deterministic; none for all.",
    ),
  ):
    flags.DEFINE_list(name, default, what, flag_values=values)
  flags.DEFINE_bool(
    "peers", True, "Whether PyTorch peers are measured too.", flag_values=values
  )
  flags.DEFINE_bool(
    "tiny",
    False,
    "gpu, sweep, lean: small sizes, to try it.",
    flag_values=values,
  )
  flags.DEFINE_string(
    "peer_python",
    None,
    "The interpreter that has them; by default this one.",
    flag_values=values,
  )
  for name, default, what in (
    ("repeats", 7, "Rounds, at most."),
    (
      "budget_s",
      4,
      "Seconds a pair; three rounds are made anyway. gpu: of all, 480.",
    ),
    (
      "num_layers",
      12,
      "optim, compiled: layers of the LLaMA that is updated; equivalence: of"
      " the GPT-2.",
    ),
    ("model_dim", 512, "optim, equivalence: its width."),
    ("hidden_dim", 1376, "optim, equivalence: of its feed-forward."),
    ("vocab_size", 4096, "optim, equivalence: rows of its embedding."),
    (
      "batch_size",
      None,
      "models: of a step; none for the model's. data: of a batch. equivalence:"
      " of both, 8.",
    ),
    ("length", 256, "models, data, equivalence: tokens of a sequence."),
    ("depth", 20, "conv_norm, adapt: of the ResNet."),
    ("num_seeds", 5, "sweep: of the quick start's, for its points per hour."),
  ):
    flags.DEFINE_integer(name, default, what, lower_bound=1, flag_values=values)
  flags.DEFINE_enum(
    "family",
    "all",
    ["all", "transformer", "vision"],
    "norms: of which, and on which arrays.",
    flag_values=values,
  )
  flags.DEFINE_enum(
    "model",
    "llama_60m",
    ["llama_60m", "tiny", "resnet20", "resnet_tiny"],
    "models: which.",
    flag_values=values,
  )
  flags.DEFINE_string(
    "data",
    None,
    "data: a config file whose data set is measured in place of ours.",
    flag_values=values,
  )
  flags.DEFINE_string(
    "out",
    None,
    "Folder of <benchmark>.json and .md; of gpu, of <device>.json, by default"
    " results. memory: its .json file, by default that of the sweep's costs.",
    flag_values=values,
  )


def run(
  positional: list[str], overrides: list[str], values: flags.FlagValues
) -> int:
  """Runs the named benchmarks, or all that time something here."""
  del overrides
  if {*positional} & {*bench.ALONE}:
    given = {
      name: values[name].value for name in values if values[name].present
    }
    return bench.get(arguments.one(positional, "benchmark", USAGE))(given)
  if {*positional} & {*bench.OF_SWEEP}:
    return _of_sweep(positional, values)
  benchmarks = [bench.get(name) for name in positional or bench.TIMED]
  from rich.console import Console

  for benchmark in benchmarks:
    benchmark(Console(), values.flag_values_dict())
  return 0


def _of_sweep(positional: list[str], values: flags.FlagValues) -> int:
  """Runs a benchmark of a sweep's file: its name comes first."""
  name, *rest = positional
  if name not in bench.OF_SWEEP:
    rest = positional
  path = arguments.one(rest, "sweep file", _OF_SWEEP_USAGE)
  from rich.console import Console

  bench.get(name)(Console(), values.flag_values_dict(), path)
  return 0
