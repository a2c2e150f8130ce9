"""Which of nine pairs of norm and optimizer trains a small decoder best?

Claim: none; a first look at what a sweep gives, on real text.
Command: normjax sweep configs/sweeps/quickstart.py
Time: under 4 minutes on two cores, compilation included.

The learning rates are one coarse choice an optimizer, made on layer_norm;
they are not tuned for each pair. `configs/sweeps/tuned.py` does that.
"""

import ml_collections

from normjax import configure
from normjax import sweep as space

SEEDS = (1, 2, 3)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The run that all points share; `:debug` shrinks it."""
  config = configure.load(f"configs/default.py:{arg}")
  if arg == "debug":
    return config
  return configure.override(
    config,
    {
      "train.num_steps": 300,
      "evaluate.every_steps": 100,
      "evaluate.num_batches": 32,
      "checkpoint.every_steps": 100,
    },
  )


def sweep() -> space.Sweep:
  """{layer_norm, rms_norm, dyt} x {adamw, muon, sinkgd}, three seeds."""
  norms = space.grid("norm.name", ("layer_norm", "rms_norm", "dyt"))
  optimizers = space.grid("optimizer.name", ("adamw", "muon", "sinkgd"))
  return space.Sweep(methods=space.product(norms, optimizers), seeds=SEEDS)
