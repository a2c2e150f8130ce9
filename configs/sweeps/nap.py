"""What does Normalize-and-Project give on a model that satisfies its premise?

Claim: arXiv:2407.01800: projection keeps the effective learning rate where it
is, so that what growing weights did for the schedule must be in the schedule;
on a transformer it does no harm. The paper's numbers were not available.
Command: normjax sweep configs/sweeps/nap.py
Time: not measured; configs/sweeps/placements.py has twice as many methods.

All but the first are a LLaMA of two blocks with a norm before every
nonlinearity (placement "nap"): doubling a matrix of it moves nothing, which
`optim.scale_invariance` measures. The same AdamW is there with and without the
projection, under a rate that falls, as the paper's, by a cosine to 0.0016 of
its peak (second-hand), and under one that does not. No weight decay, which is
another way to keep weights from growing. The usual placement is there to see
what the norms alone do; NaP on it would be another method.
"""

import ml_collections

from normjax import configure
from normjax import sweep as space

DECAYED = {"schedule.name": "warmup_cosine", "schedule.final_fraction": 0.0016}
CONSTANT = {"schedule.name": "constant"}
ADAMW = {
  "optimizer.name": "adamw",
  "optimizer.learning_rate": 3e-3,
  "optimizer.weight_decay": 0.0,
}
NAP = {"optimizer.name": "nap_adamw", "optimizer.learning_rate": 3e-3}
# The paper treats gains apart: together scaled to their first norm, or pulled
# to their first values.
GAINS_TOO = {**NAP, "optimizer.vectors": "normalize"}
METHODS = {
  "AdamW, pre-norm": {"model.placement": "pre"} | ADAMW | DECAYED,
  "AdamW": ADAMW | DECAYED,
  "NaP": NAP | DECAYED,
  "NaP, gains too": GAINS_TOO | DECAYED,
  "AdamW, constant rate": ADAMW | CONSTANT,
  "NaP, constant rate": NAP | CONSTANT,
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The run that all points share; `:debug` shrinks it."""
  config = configure.load(f"configs/default.py{':' if arg else ''}{arg}")
  return configure.override(config, {"model.placement": "nap"})


def sweep() -> space.Sweep:
  """Six methods, compared with AdamW on the same model."""
  return space.Sweep(
    methods=list(METHODS.values()),
    labels=list(METHODS),
    baseline="AdamW",
    seeds=(1, 2, 3, 4, 5),
    tune=space.Tune(
      {"optimizer.learning_rate": (0.5, 1.0, 2.0)}, relative=True
    ),
  )
