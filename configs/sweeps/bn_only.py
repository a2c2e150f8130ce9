"""How far do batch norm's scales and biases alone take a random network?

Claim: training only them, accuracy rises with depth and with width, and
training only the output layer it does not rise with depth (arXiv:2003.00152).
Command: normjax sweep configs/sweeps/bn_only.py
Time: about 6 minutes on two cores, compilation included.

ResNets of the paper's code on real digits, 8x8 pixels: a projection where the
shape changes, scales drawn uniformly from (0, 1). SGD with momentum 0.9 and
rate 0.1 as in the paper, which falls along a cosine in place of steps, and no
tuning. There are 336, 560 and 1,008 such parameters by depth and 1,120 at
twice the width. Running statistics move in every row.
"""

import ml_collections

from normjax import configure
from normjax import sweep as space

NETWORKS = {"8 x 8": (8, 8), "14 x 8": (14, 8), "26 x 8": (26, 8)}
NETWORKS |= {"14 x 16": (14, 16)}
TRAINED = {
  "batch norm": {"train.output_frozen": True, "train.others_frozen": True},
  "output layer": {"train.norms_frozen": True, "train.others_frozen": True},
  "all": {},
}


def get_config() -> ml_collections.ConfigDict:
  """The run that all points share."""
  config = configure.load("configs/default.py")
  config.model = configure.component(
    "model", "cifar_resnet", shortcut="project", scale_init="uniform"
  )
  config.norm = configure.component("norm", "batch_norm")
  config.optimizer = configure.component(
    "optimizer", "sgd", learning_rate=0.1, momentum=0.9
  )
  config.data = configure.component("data", "digits")
  return configure.override(
    config,
    {
      "schedule.warmup_fraction": 0.0,
      "schedule.final_fraction": 0.0,
      "train.num_steps": 300,  # About 14 epochs.
      "train.batch_size": 64,
      "train.gradient_clip": 0.0,
      "evaluate.every_steps": 300,
      "evaluate.num_batches": 0,
      "checkpoint.every_steps": 0,
      "log.every_steps": 20,
    },
  )


def sweep() -> space.Sweep:
  """Four networks, three ways to train each, five seeds."""
  rows = {
    f"{trained}, depth x width {network}": flags
    | {"model.depth": depth, "model.width": width}
    for trained, flags in TRAINED.items()
    for network, (depth, width) in NETWORKS.items()
  }
  return space.Sweep(
    methods=list(rows.values()),
    labels=list(rows),
    seeds=(1, 2, 3, 4, 5),
    metric="eval/accuracy",
    mode="max",
  )
