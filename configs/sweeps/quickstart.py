"""Which of nine pairs of norm and optimizer trains a small decoder best?

Claim: none; a first look at what a sweep gives, on real text.
Command: normjax sweep configs/sweeps/quickstart.py
Time: under 4 minutes on two cores, compilation included.

The learning rates are one coarse choice an optimizer, made on layer_norm with
another seed; they are not tuned for each pair: configs/sweeps/tuned.py is.
"""

import ml_collections

from normjax import configure
from normjax import sweep as space

NORMS = (
  {"norm.name": "layer_norm"},
  {"norm.name": "rms_norm"},
  # As in the paper's LLaMA of this width or less: tables 10 and 11 and
  # section 5 of arXiv:2503.10622.
  {
    "norm.name": "dyt",
    "norm.alpha_init": 1.0,
    "model.scaled_embeddings": True,
  },
)
OPTIMIZERS = (
  {"optimizer.name": "adamw", "optimizer.learning_rate": 3e-3},
  {
    "optimizer.name": "muon",
    "optimizer.learning_rate": 0.02,
    "optimizer.fallback_learning_rate": 0.01,
  },
  {"optimizer.name": "sinkgd", "optimizer.learning_rate": 0.04},
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The run that all points share; `:debug` shrinks it."""
  if arg:
    return configure.load(f"configs/default.py:{arg}")
  return configure.load("configs/default.py")


def methods() -> list[dict]:
  """The nine rows."""
  return space.product(
    space.chain(*(space.point(norm) for norm in NORMS)),
    space.chain(*(space.point(optimizer) for optimizer in OPTIMIZERS)),
  )


def sweep() -> space.Sweep:
  """{layer_norm, rms_norm, dyt} x {adamw, muon, sinkgd}, three seeds."""
  return space.Sweep(methods=methods(), seeds=(1, 2, 3))
