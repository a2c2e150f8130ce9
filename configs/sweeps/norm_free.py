"""Can a residual network do without norms, and what does clipping add?

Claim: networks without norms, with scaled weight standardization and known
variances, reach the accuracy of batch norm (arXiv:2101.08692); adaptive
gradient clipping keeps them trainable at learning rates where they fail
without it (arXiv:2102.06171, figure 2).
Command: normjax sweep configs/sweeps/norm_free.py
Time: not measured since each seed is tuned; `--dry_run` says what runs.

Residual networks of 20 layers and alike many parameters on real digits, 8x8
pixels. All are trained by the same Nesterov momentum; without clipping its
bound is a million times the weights. Each method tries five learning rates, a
factor 4 apart, around a first guess; where the best of some lies on an edge,
all grids grow by a notch. A bound of 0.01, the paper's for batches of 4096,
holds the scalars that start at 0 to 1e-5 a gradient: 220 steps need large
rates for them to count. Hence the row with the largest bound that the paper
has, 0.16.
"""

import ml_collections

from normjax import configure
from normjax import sweep as space

_UNCLIPPED = {"optimizer.clipping": 1e6}
_CIFAR = {"model.name": "cifar_resnet", "model.depth": 20, "model.width": 8}
METHODS = {
  "batch_norm": {
    **_CIFAR,
    "model.version": "v2",
    "norm.name": "batch_norm",
    **_UNCLIPPED,
  },
  "NF-ResNet with clipping": {"optimizer.learning_rate": 1.6},
  "NF-ResNet with clipping at 0.16": {"optimizer.clipping": 0.16},
  "NF-ResNet": _UNCLIPPED,
  "Fixup": {
    "model.name": "fixup_cifar_resnet",
    "model.depth": 20,
    "model.width": 8,
    **_UNCLIPPED,
  },
  "nothing": {**_CIFAR, "model.version": "v2", **_UNCLIPPED},
  "nothing, with clipping": {**_CIFAR, "model.version": "v2"},
}


def get_config() -> ml_collections.ConfigDict:
  """The run that all points share: a NF-ResNet with clipping."""
  config = configure.load("configs/default.py")
  config.model = configure.component(
    "model", "cifar_nf_resnet", depth=20, width=2
  )
  config.norm = configure.component("norm", "identity")
  config.optimizer = configure.component("optimizer", "nfnet_sgd")
  config.data = configure.component("data", "digits")
  return configure.override(
    config,
    {
      "train.num_steps": 220,  # About ten epochs.
      "train.batch_size": 64,
      "train.gradient_clip": 0.0,
      "evaluate.every_steps": 220,
      "evaluate.num_batches": 0,
      "checkpoint.every_steps": 0,
      "log.every_steps": 20,
    },
  )


def sweep() -> space.Sweep:
  """Seven methods, tuned for each of five seeds."""
  return space.Sweep(
    methods=list(METHODS.values()),
    labels=list(METHODS),
    seeds=(1, 2, 3, 4, 5),
    tune=space.Tune(
      {"optimizer.learning_rate": (1 / 16, 1 / 4, 1.0, 4.0, 16.0)},
      max_extensions=1,
      relative=True,
    ),
    baseline="batch_norm",
    metric="eval/accuracy",
    mode="max",
  )
