"""How far do batch norm's scales and biases alone take a random network?

Claim: training only them, accuracy rises with depth and with width
(arXiv:2003.00152, whose abstract says so of depth). Expected here too, after a
trial: training only the output layer, it does not rise with depth.
Command: normjax reproduce bn_only_depth --scale=proxy
Time: about 3 minutes on two cores, compilation included.

ResNets of the paper's code: a projection where the shape changes, scales drawn
uniformly from (0, 1), SGD with momentum 0.9 and rate 0.1, no tuning. Running
statistics move in every row.

`:proxy`: real digits of 8x8 pixels in place of CIFAR-10, networks a half as
wide, 14 epochs of batches of 64, and a rate that falls along a cosine in place
of steps; no augmentation and no decay. Batch norm has 336, 560 and 1,008
parameters by depth and 1,120 at twice the width.

`:paper`: CIFAR-10, 160 epochs of 128 with crops and mirror images, the rate a
tenth at epochs 80 and 120, decay of 1e-4 on all that is trained.
"""

import ml_collections

from normjax import configure, papers
from normjax import sweep as space
from normjax.papers import imagenet

SCALES = ("proxy", "paper")
NORMS = "batch norm"
OUTPUT = "output layer"
ALL = "all"
_DEPTH = "abstract: sufficiently deep ResNets; 48, 69.5, 82, second-hand"
_WIDTH = "its section on depth and width, second-hand"
# What the targets call them.
_TARGETS = {NORMS: "BN only", ALL: "all parameters"}
TRAINED = {
  NORMS: {"train.output_frozen": True, "train.others_frozen": True},
  OUTPUT: {"train.norms_frozen": True, "train.others_frozen": True},
  ALL: {},
}
# Depth and width of the networks, and what is trained in them.
PROXY = ((8, 8), (14, 8), (26, 8), (14, 16))
PAPER = tuple((depth, 16) for depth in (14, 32, 56, 110, 218, 434, 866))
ROWS = {
  "proxy": [
    *((NORMS, size) for size in PROXY),
    *((OUTPUT, size) for size in PROXY[:3]),
    (ALL, (14, 8)),
  ],
  "paper": [(trained, size) for trained in (NORMS, ALL) for size in PAPER],
}
# Of the paper's networks.
COUNTS = {
  14: 175_258,
  32: 466_906,
  56: 855_770,
  110: 1_730_714,
  218: 3_480_602,
  434: 6_980_378,
  866: 13_979_930,
}


def _column(size: tuple[int, int]) -> str:
  depth, width = size
  return f"ResNet-{depth}" if width == 16 else f"ResNet-{depth}, width {width}"


def _label(trained: str, size: tuple[int, int]) -> str:
  return f"{trained}, {_column(size)}"


PARAMETERS = {
  "paper": {
    _label(trained, size): COUNTS[size[0]]
    for trained in (NORMS, ALL)
    for size in PAPER
  }
}


def get_config(arg: str = "proxy") -> ml_collections.ConfigDict:
  """The run that all points share."""
  config = configure.load("configs/default.py")
  config.model = configure.component(
    "model", "cifar_resnet", shortcut="project", scale_init="uniform"
  )
  config.norm = configure.component("norm", "batch_norm")
  config.optimizer = configure.component(
    "optimizer", "sgd", learning_rate=0.1, momentum=0.9
  )
  config = configure.override(
    config,
    {
      "schedule.warmup_fraction": 0.0,
      "schedule.final_fraction": 0.0,
      "train.gradient_clip": 0.0,
      "evaluate.num_batches": 0,
    },
  )
  return {"proxy": _proxy, "paper": _paper}[_scale(arg)](config)


def _scale(arg: str) -> str:
  return (space.words(arg, SCALES) or SCALES)[0]


def _proxy(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  # Nothing is tuned: all that is held out validates.
  config.data = configure.component("data", "digits", tuning_split=False)
  return configure.override(
    config,
    {
      "train.num_steps": 300,  # About 14 epochs.
      "train.batch_size": 64,
      "evaluate.every_steps": 300,
      "checkpoint.every_steps": 0,
      "log.every_steps": 20,
    },
  )


def _paper(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  config.data = configure.component(
    "data",
    "cifar10",
    augment=True,
    train_split="train",
    tuning_split="",
    validation_split="",
  )
  epoch = 50_000 // 128
  return configure.override(
    config,
    {
      "schedule.name": "step_decay",
      "schedule.milestones": (80 / 160, 120 / 160),
      "optimizer.weight_decay": 1e-4,
      "optimizer.mask": "all",
      "train.num_steps": 160 * epoch,
      "train.batch_size": 128,
      "evaluate.split": "test",
      "evaluate.batch_size": 500,
      "evaluate.every_steps": 160 * epoch,
      "checkpoint.every_steps": 10 * epoch,
      "log.every_steps": 100,
    },
  )


def sweep(arg: str = "proxy") -> space.Sweep:
  """What is trained in which network."""
  scale = _scale(arg)
  rows = {
    _label(trained, (depth, width)): TRAINED[trained]
    | {"model.depth": depth, "model.width": width}
    for trained, (depth, width) in ROWS[scale]
  }
  return space.Sweep(
    methods=list(rows.values()),
    labels=list(rows),
    seeds=(1, 2, 3, 4, 5) if scale == "proxy" else imagenet.SEEDS,
    metric="eval/accuracy",
    mode="max",
  )


def table(scale: str) -> papers.Table:
  """Accuracy by what is trained, depth and width."""
  return {"proxy": _proxy_table, "paper": _paper_table}[scale]()


def _proxy_table() -> papers.Table:
  small, middle, deep, wide = (_column(size) for size in PROXY)
  return papers.Table(
    title="Training batch norm alone, by depth and width",
    paper="bn_only",
    target="depth",
    cells=_cells(
      "proxy",
      lambda trained, size: (
        (_TARGETS[trained], "ResNet-14") if size == (14, 16) else None
      ),
    ),
    expected=[
      papers.above((NORMS, middle), (NORMS, small), source=_DEPTH),
      papers.above((NORMS, deep), (NORMS, middle), source=_DEPTH),
      papers.above((NORMS, wide), (NORMS, middle), source=_WIDTH),
      papers.Expected(
        "training the output layer alone gains nothing from depth",
        {(OUTPUT, deep): 1.0, (OUTPUT, small): -1.0},
        at_most=0.0,
        source="a trial before; not read in the paper",
      ),
    ],
    hardware="two CPU cores",
    differs=(
      "1,797 images of 8x8 digits in place of CIFAR-10, width 8 in place of 16,"
      " 14 epochs in place of 160; untuned."
    ),
    notes=(
      "What is expected of the output layer is from a trial before, of one seed"
      " on MNIST: 37.5, 33.8 and 28.2% at 8, 14 and 26 layers. Its batch norm"
      " alone had 39.6, 55.2 and 53.8%, the last below the middle one.",
    ),
    direction="higher",
  )


def _paper_table() -> papers.Table:
  targets = {14, 110, 866}
  return papers.Table(
    title="Training batch norm alone, by depth",
    paper="bn_only",
    target="depth",
    cells=_cells(
      "paper",
      lambda trained, size: (
        (_TARGETS[trained], _column(size)) if size[0] in targets else None
      ),
    ),
    expected=[
      papers.above((NORMS, "ResNet-110"), (NORMS, "ResNet-14"), source=_DEPTH),
      papers.above((NORMS, "ResNet-866"), (NORMS, "ResNet-110"), source=_DEPTH),
    ],
    hardware="one GPU; ResNet-866 takes the most of its time",
    differs=(
      "Pixels are standardized by CIFAR-10's own means, in the paper's code by"
      " ImageNet's; the last, shorter batch of an epoch is left out."
    ),
    notes=(
      imagenet.ONE_RUN,
      "A re-implementation from 2020 got 46.67, 65.19 and 77.83 for batch norm"
      " alone at 14, 110 and 866 layers, and saw divergence from 218 on.",
    ),
    direction="higher",
  )


def _cells(scale: str, paper=lambda *_: None) -> list[papers.Cell]:
  return [
    papers.Cell(
      trained,
      _column(size),
      method=_label(trained, size),
      paper=paper(trained, size),
    )
    for trained, size in ROWS[scale]
  ]
