"""Do SELU networks train at a depth where others need a norm?

Claim: a self-normalizing network of 32 layers trains, where a ReLU network
needs a norm or fails (arXiv:1706.02515, figure 1 and section "Experiments").
Command: normjax sweep configs/sweeps/selu.py
Time: not measured since each seed is tuned; `--dry_run` says what runs.

Constant width 64 on real digits, SGD with momentum 0.9 in batches of 128, no
dropout and no residual stream. The norms are before the activation; the
paper's code for figure 1 has BatchNorm after it. Every row tunes its learning
rate from 0.001 to 0.03, a factor 3 apart; where the best of some lies on an
edge, all grids grow by a notch, twice at most.
"""

import ml_collections

from normjax import configure
from normjax import sweep as space

DEPTHS = (8, 32)
NETWORKS = {
  "SELU": {
    "model.activation": "selu",
    "model.init": "lecun_normal",
    "norm.name": "identity",
  },
  "ReLU": {"norm.name": "identity"},
  "ReLU and batch_norm": {"norm.name": "batch_norm"},
  "ReLU and layer_norm": {"norm.name": "layer_norm"},
}


def get_config() -> ml_collections.ConfigDict:
  """The run that all points share."""
  config = configure.load("configs/default.py")
  config.model = configure.component("model", "mlp", hidden_dim=64)
  config.optimizer = configure.component(
    "optimizer", "sgd", learning_rate=0.01, momentum=0.9
  )
  config.data = configure.component("data", "digits")
  return configure.override(
    config,
    {
      "schedule.name": "constant",
      "schedule.warmup_fraction": 0.0,
      "train.num_steps": 300,  # About 27 epochs.
      "train.batch_size": 128,
      "train.gradient_clip": 0.0,
      "evaluate.every_steps": 300,
      "evaluate.num_batches": 0,
      "checkpoint.every_steps": 0,
      "log.every_steps": 20,
    },
  )


def sweep() -> space.Sweep:
  """Four networks at two depths, tuned for each of five seeds."""
  rows = {
    f"{label}, {depth} layers": network | {"model.num_layers": depth}
    for depth in DEPTHS
    for label, network in NETWORKS.items()
  }
  return space.Sweep(
    methods=list(rows.values()),
    labels=list(rows),
    seeds=(1, 2, 3, 4, 5),
    tune=space.Tune(
      {"optimizer.learning_rate": (0.1, 1 / 3, 1.0, 3.0)}, relative=True
    ),
    baseline=f"SELU, {DEPTHS[-1]} layers",
    metric="eval/accuracy",
    mode="max",
  )
