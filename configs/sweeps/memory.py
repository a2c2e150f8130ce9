"""Which way to train in less memory loses least, and what does it save?

Claim: none of ours; every lean method of the library under one tuning budget.
Command: normjax sweep configs/sweeps/memory.py
Time: 675 runs, about 40 minutes on two idle cores.

Two numbers per row. The loss is that of the small decoder of configs/default.py
(0.13M parameters, 200 steps of 16 x 64 bytes of Shakespeare, the same tokens
for all rows). The bytes are those of a training step of LLaMA 60M compiled for
an H200, `large()`: parameters, gradients, state, activations, by `normjax bench
memory`. Nothing is trained at 60M.

For each of five seeds every row tries three learning rates, a factor 2 apart,
around a first guess, and a fourth beside the best: a row whose best then lies
on an edge might do better, and the table marks it. Nothing else is tuned;
nothing decays. The guess for what configs/sweeps/optimizers.py has tuned is
about what it chose for 300 steps (the lab log); for the others it lies about
the best of a grid, 4x apart, of 100 steps with one seed and on data to tune on
(`:guesses`).

What was set, and not tuned:

- Ranks are a quarter of the width in both models, alpha of the factors a
  quarter of the rank: SLTrain's official 128 and 32 at 60M, with its density of
  0.03. apollo_mini has a scale of a quarter of the width and `scale_front`, as
  its official script for 60M.
- apollo, apollo_mini and galore have a new basis every 50 steps, four in all,
  and relora restarts so, three times. The papers' intervals are as long as the
  run, or longer.
- badam and lisa switch every 20 steps, ten times. badam trains embedding and
  head as a block of their own: from random weights they cannot stay. lisa
  moves one layer of two here and two of eight at 60M, and drops the moments of
  the others, without which it saves no state. bcd draws a block each step.
- muon's other leaves have AdamW's first guess, 0.003. Those of sinkgd, swan,
  scale and racs move at the rate that is tuned.
- adafactor factors axes from 64 on here, from 128 on at 60M.
- States in 8 and 4 bits leave the embedding's in 32 bits. Beside bfloat16
  weights gradients and moments are float32. sltrain, low_rank and relora are
  AdamW's. swan and sinkgd are second-hand.
- zeroth_order has eps = 0.001, one direction, and no clipping. Beside plain
  SGD (no state) it has AdamW.

What it does not show. The loss of a model of 0.13M parameters does not say
which method loses least at 60M, let alone at 7B: ranks of 16, blocks of 256
entries in rows of 64, two layers to choose from, and roundings all act
otherwise there. The bytes are of one model, batch, precision and device; with
fewer tokens per parameter state and gradients weigh more, activations less. A
rate was tuned, in steps of a factor 2; ranks, intervals, densities and betas
were not, so that a row that needs them set well is shown at less than its best.
Steps are equal, and zeroth_order has hardly begun after 200: papers give it
tens of thousands, from trained weights, though its step has two forward passes
where AdamW's costs about three. badam, lisa and relora are made for
fine-tuning or for much longer runs. A time on two cores says nothing of an
H200. With 26 comparisons five seeds decide what differs by some three standard
deviations, and no less: "not distinguishable" is not "as good". `model.remat`
saves activations under every row and leaves its loss as it is, so it is no row.

`:debug` runs a few steps of two seeds, to see that all of it works.
"""

import dataclasses
from typing import Any

import ml_collections

from normjax import configure
from normjax import sweep as space

Row = dict[str, Any]

# The rows that `:guesses` runs, and at how many times their rates.
GUESSED = (
  "bfloat16 weights, nearest",
  "scale",
  "racs",
  "apollo_mini",
  "sltrain",
  "low_rank",
  "relora",
  "badam",
  "lisa",
  "bcd",
  "zeroth_order, adamw",
  "zeroth_order, sgd",
)
WIDE = (1 / 16, 1 / 4, 1.0, 4.0, 16.0)
BLOCK_GRADIENTS = {"train.block_gradients": True}
# Its norm is that of some hundred gradients.
ZEROTH_ORDER = {"train.gradient": "zeroth_order", "train.gradient_clip": 0.0}
BFLOAT16 = {"train.param_dtype": "bfloat16"}
_ARGUMENTS = ("debug", "guesses")


@dataclasses.dataclass(frozen=True)
class Size:
  """What of a row goes with the size of the model.

  Attributes:
    width: of the model.
    factored: the smallest axis that adafactor factors.
    lisa_layers: how many lisa moves at a time.
  """

  width: int
  factored: int
  lisa_layers: int


SMALL = Size(width=64, factored=64, lisa_layers=1)
LLAMA_60M = Size(width=512, factored=128, lisa_layers=2)


def optimizer(name: str, learning_rate: float, **options: Any) -> Row:
  """An optimizer without decay, by the first guess of its learning rate."""
  options = {"learning_rate": learning_rate, "weight_decay": 0.0, **options}
  return {
    "optimizer.name": name,
    **{f"optimizer.{key}": value for key, value in options.items()},
  }


def methods(size: Size) -> dict[str, Row]:
  """The rows by label, the baseline first."""
  rank = size.width // 4
  factors = f"rank={rank}, alpha={rank / 4}"
  bases = {"rank": rank, "update_proj_gap": 50}
  return {
    "adamw": optimizer("adamw", 3e-3),
    "sgd": optimizer("sgd", 0.4),
    "adafactor": optimizer(
      "adafactor", 0.06, min_dim_size_to_factor=size.factored
    ),
    "adamw_8bit": optimizer("adamw_8bit", 3e-3),
    "adamw_4bit": optimizer("adamw_4bit", 3e-3),
    "adamw_fp8": optimizer("adamw_fp8", 3e-3),
    "momentum_8bit": optimizer("momentum_8bit", 0.5),
    "lion_8bit": optimizer("lion_8bit", 3e-3),
    "bfloat16 weights, nearest": BFLOAT16 | optimizer("adamw", 3e-3),
    "bfloat16 weights, stochastic": BFLOAT16
    | {"train.param_rounding": "stochastic"}
    | optimizer("adamw", 3e-3),
    "bfloat16 weights, kahan": BFLOAT16
    | {"train.param_rounding": "kahan"}
    | optimizer("adamw", 3e-3),
    "muon": optimizer("muon", 0.02, fallback_learning_rate=3e-3),
    "sinkgd": optimizer("sinkgd", 0.08),
    "swan": optimizer("swan", 0.12),
    "scale": optimizer("scale", 0.004),
    "racs": optimizer("racs", 0.04),
    "apollo": optimizer("apollo", 0.03, **bases),
    "apollo_mini": optimizer(
      "apollo_mini",
      0.01,
      scale=float(rank),
      scale_front=True,
      update_proj_gap=50,
    ),
    "galore": optimizer("galore", 0.06, **bases),
    "sltrain": {"model.linear": f"sltrain({factors}, density=0.03)"}
    | optimizer("adamw", 0.025),
    "low_rank": {"model.linear": f"low_rank({factors})"}
    | optimizer("adamw", 0.012),
    "relora": {"model.linear": f"relora({factors}, restart_every=50)"}
    | optimizer("adamw", 0.01),
    "badam": BLOCK_GRADIENTS
    | optimizer("badam", 0.012, others="block", switch_every=20),
    "lisa": BLOCK_GRADIENTS
    | optimizer(
      "lisa",
      6e-3,
      num_active=size.lisa_layers,
      reset_state=True,
      switch_every=20,
    ),
    "bcd": BLOCK_GRADIENTS | optimizer("bcd", 2.0),
    "zeroth_order, adamw": ZEROTH_ORDER | optimizer("adamw", 6e-3),
    # That of the library keeps a momentum, if only of 0.
    "zeroth_order, sgd": ZEROTH_ORDER
    | {"optimizer.name": "optax:sgd", "optimizer.learning_rate": 4e-3},
  }


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The run that all points share; `:debug` shrinks it."""
  words = space.words(arg, _ARGUMENTS)
  config = configure.load("configs/default.py")
  overrides = {
    "train.num_steps": 4 if "debug" in words else 200,
    "evaluate.every_steps": 200,  # After the last step.
    "evaluate.num_batches": 1 if "debug" in words else 8,
    # A run of seconds begins again where it was interrupted.
    "checkpoint.every_steps": 0,
    "log.every_steps": 50,
  }
  if "guesses" in words:
    overrides |= {"seed": 2001, "evaluate.split": "tuning"}
    overrides["train.num_steps"] //= 2
  return configure.override(config, overrides)


def sweep(arg: str = "") -> space.Sweep | list[Row]:
  """Lean methods, each tuned for each of five seeds, compared with AdamW."""
  words = space.words(arg, _ARGUMENTS)
  debug = "debug" in words
  rows = methods(SMALL)
  rate = "optimizer.learning_rate"
  if "guesses" in words:
    wide = [1.0] if debug else WIDE
    return [
      rows[label] | {rate: rows[label][rate] * factor}
      for label in GUESSED
      for factor in wide
    ]
  return space.Sweep(
    methods=[*rows.values()],
    labels=[*rows],
    baseline="adamw",
    seeds=(1, 2) if debug else (1, 2, 3, 4, 5),
    tune=space.Tune(
      {rate: (0.5, 1.0, 2.0)},
      relative=True,
      max_extensions=1,
      second_pass=False,
    ),
    costs=space.Costs("experiments/memory/llama_60m_h200.json"),
  )


def large(arg: str = "") -> dict[str, ml_collections.ConfigDict]:
  """The rows of `sweep(arg)` as they train LLaMA 60M: for their bytes alone.

  All compute in bfloat16. What moves no byte, as rates and intervals, is that
  of the small model.
  """
  # Of no use to a sweep, which every worker loads.
  from normjax.bench import compiled_steps

  config = configure.override(
    get_config(arg),
    {
      **compiled_steps.MODELS["llama_60m"].overrides,
      "train.precision": "bfloat16",
    },
  )
  return {
    label: configure.override(config, row)
    for label, row in methods(LLAMA_60M).items()
  }
