"""Does group norm keep its accuracy under corruption better than batch norm?

Claim: group norm is more robust to image corruptions than batch norm with the
statistics of the training images; arXiv:2109.01123 says so of instance
segmentation, in its abstract, without a number that could be read.
Command: normjax reproduce gn_corruption --scale=proxy
Time: about 6 minutes on two cores, compilation included.

A ResNet-8 on 4,000 digits of MNIST; the 500 held-out digits clean and under the
14 common kinds of CIFAR-10-C that are here, at severity 3 of 5. Learning rates
are tuned for each seed by accuracy on clean digits: three values, a factor 3
apart, around 0.03; where the best of some lies on an edge, all grids grow by a
notch, once.
"""

import ml_collections

from normjax import configure, papers
from normjax import sweep as space

SCALES = ("proxy",)
BATCH_NORM, GROUP_NORM = "batch_norm", "group_norm"
# Four channels or more a group; the first stage has 8 channels.
METHODS = {
  BATCH_NORM: {"norm.name": "batch_norm"},
  GROUP_NORM: {"norm.name": "group_norm", "norm.num_groups": 2},
}
COLUMNS = {
  "clean": "eval/accuracy",
  "corrupted": "eval/mean_corrupted_accuracy",
  "corrupted / clean": "eval/relative_corrupted_accuracy",
}
# Of `corruptions.expand(("common",))`, whose import takes a second.
KINDS = (
  "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur",
  "frosted_glass_blur", "motion_blur", "zoom_blur", "snow", "fog", "brightness",
  "contrast", "elastic", "pixelate", "jpeg_compression",
)  # fmt: skip


def get_config(arg: str = "proxy") -> ml_collections.ConfigDict:
  """The run that all points share."""
  space.words(arg, SCALES)
  return configure.override(
    configure.load("configs/default.py"),
    {
      "model.name": "cifar_resnet",
      "model.depth": 8,
      "model.width": 8,
      "norm.name": "batch_norm",
      "data.name": "mnist_5k",
      "optimizer.learning_rate": 0.03,
      "train.num_steps": 300,
      "train.batch_size": 64,
      "evaluate.every_steps": 300,
      "evaluate.num_batches": 0,
      "evaluate.batch_size": 250,
      "evaluate.corruptions": tuple(f"{kind}_3" for kind in KINDS),
      "checkpoint.every_steps": 0,
    },
  )


def sweep(arg: str = "proxy") -> space.Sweep:
  """Two norms, tuned for each of five seeds."""
  space.words(arg, SCALES)
  return space.Sweep(
    methods=list(METHODS.values()),
    labels=list(METHODS),
    seeds=(1, 2, 3, 4, 5),
    tune=space.Tune(
      {"optimizer.learning_rate": (1 / 3, 1.0, 3.0)},
      max_extensions=1,
      relative=True,
      second_pass=False,
    ),
    baseline=BATCH_NORM,
    metric="eval/accuracy",
    other_metrics=[m for m in COLUMNS.values() if m != "eval/accuracy"],
    mode="max",
  )


def table(scale: str) -> papers.Table:
  """Norms, on clean and on corrupted images."""
  del scale
  return papers.Table(
    title="Accuracy under corruption by norm",
    paper="gn_robustness",
    target=None,
    cells=[
      papers.Cell(norm, column, method=norm, metric=metric)
      for norm in METHODS
      for column, metric in COLUMNS.items()
    ],
    expected=[
      papers.above(
        (GROUP_NORM, "corrupted"),
        (BATCH_NORM, "corrupted"),
        claim="under corruption group_norm is above batch_norm",
        source="abstract",
      ),
      papers.above(
        (GROUP_NORM, "corrupted / clean"),
        (BATCH_NORM, "corrupted / clean"),
        claim="group_norm keeps more of its clean accuracy than batch_norm",
        source="abstract",
      ),
    ],
    hardware="two CPU cores",
    differs=(
      "A ResNet-8 that classifies 28x28 digits, in place of instance"
      " segmentation; 14 kinds of corruption at severity 3."
    ),
    notes=(
      "The paper's other claim, that batch norm generalises better across data"
      " sets, is not tested.",
    ),
    direction="higher",
  )
