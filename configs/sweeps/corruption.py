"""Which norm of a small ResNet keeps its accuracy under corruption?

Claim: group_norm lies above batch_norm with the statistics of the training
images; arXiv:2109.01123 says so of instance segmentation.
Command: normjax sweep configs/sweeps/corruption.py
Time: about 5 minutes on two cores, compilation included.

A ResNet-8 on 4,000 digits of MNIST, one rate for all norms, five seeds; the
500 held-out digits under noise, blur, light and loss of contrast, at the
severities at which a first network with group_norm had more than 80%.
"""

import ml_collections

from normjax import configure
from normjax import sweep as space

CORRUPTIONS = (
  "gaussian_noise",
  "gaussian_blur",
  *(f"brightness_{severity}" for severity in (1, 2, 3, 4)),
  *(f"contrast_{severity}" for severity in (1, 2, 3, 4)),
)
# Four channels or more a group; the first stage has 8 channels.
METHODS = (
  {"norm.name": "batch_norm"},
  {"norm.name": "group_norm", "norm.num_groups": 2},
  {"norm.name": "instance_norm"},
  {"norm.name": "frn"},
  {"norm.name": "evonorm_s0", "norm.num_groups": 2},
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The run that all points share; `:debug` shrinks it."""
  config = configure.load(f"configs/default.py{':' if arg else ''}{arg}")
  steps = {} if arg else {"train.num_steps": 300, "evaluate.every_steps": 150}
  return configure.override(
    config,
    {
      "model.name": "cifar_resnet",
      "model.depth": 8,
      "model.width": 8,
      "norm.name": "batch_norm",
      "data.name": "mnist_5k",
      "optimizer.learning_rate": 0.01,
      "train.batch_size": 64,
      "evaluate.num_batches": 0,
      "evaluate.batch_size": 250,
      "evaluate.corruptions": CORRUPTIONS,
      "checkpoint.every_steps": 0,
    }
    | steps,
  )


def sweep() -> space.Sweep:
  """Five norms, five seeds."""
  return space.Sweep(
    methods=METHODS,
    seeds=(1, 2, 3, 4, 5),
    baseline={"norm.name": "batch_norm"},
    metric="eval/mean_corrupted_accuracy",
    other_metrics=("eval/accuracy",),
    mode="max",
  )
