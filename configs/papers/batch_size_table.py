"""Which norms hold where few images are normalized together?

Claim: batch norm collapses at 2 images and diverges at 1, group norm, with and
without weight standardization, batch-channel and switchable normalization stay
where they are at large batches (arXiv:1803.08494, figure 1; arXiv:1806.10779,
table of the repository; arXiv:1903.10520).
Command: normjax reproduce batch_size_table --scale=proxy
Time: about 3 minutes on two cores, compilation included.

`:proxy`: ResNet-8 on real digits of 8x8 pixels, steps of 64 and 2 images, of BN
and GN also of 1, as many images in all, learning rates linear in the batch, as
the repository has them. Nothing is tuned. An 8x8 image has 4 positions at the
last stage, where the paper's have 49, and ten classes are easy.

`:paper`: ResNet-50 on ImageNet as the repository trains it: 100 epochs, the
rate a tenth at 30, 60 and 90, 0.1 for 8 GPUs of 32 images and linear in the
batch. "(8,2)" are 8 GPUs of 2 images: 16 a step, of which batch norm sees two
at a time (`virtual_batch_size`, whatever the devices are).
"""

import ml_collections

from normjax import configure, papers
from normjax import sweep as space
from normjax.papers import imagenet

SCALES = ("proxy", "paper")
BN, GN, SN = "BN", "GN", "SN"
GN_WS, BCN_WS = "GN + WS", "BCN + WS"

# ----- Proxy -----

STEPS = 88  # Of the largest batch: about four epochs.
SIZES = (64, 2, 1)
_ALONE = (BN, GN)  # What is trained image by image, too: the dearest runs.
_STANDARDIZED = {"model.weight_norm": "weight_standardization"}
# Groups of two channels in the first stage and of eight in the last.
_GROUPS = {"norm.name": "group_norm", "norm.num_groups": 4}
NORMS = {
  BN: {"norm.name": "batch_norm"},
  GN: _GROUPS,
  GN_WS: _GROUPS | _STANDARDIZED,
  # With the statistics that the paper estimates for micro-batches, and with
  # weight standardization, as everywhere there.
  BCN_WS: {
    "norm.name": "bcn",
    "norm.num_groups": 4,
    "norm.estimated": True,
    **_STANDARDIZED,
  },
  SN: {"norm.name": "switchable_norm"},
}

# ----- Paper -----

# (GPUs, images a GPU), as the repository's table has them.
PLACES = ((8, 32), (8, 16), (8, 8), (8, 4), (8, 2), (1, 16), (1, 32), (8, 1))
PLACES += ((1, 8),)


_RESNET_50 = 25_557_032  # torchvision's.
_SWITCHES = 53 * 6  # Logits of SN, at each site.
PARAMETERS = {
  "paper": {
    f"{norm} ({gpus},{images})": _RESNET_50 + (_SWITCHES if norm == SN else 0)
    for norm in (BN, GN, SN)
    for gpus, images in PLACES
  }
}


def _scale(arg: str) -> str:
  return (space.words(arg, SCALES) or SCALES)[0]


def get_config(arg: str = "proxy") -> ml_collections.ConfigDict:
  """The run that all points share."""
  return {"proxy": _proxy, "paper": _paper}[_scale(arg)]()


def _proxy() -> ml_collections.ConfigDict:
  config = configure.load("configs/default.py")
  config.model = configure.component("model", "cifar_resnet", depth=8, width=8)
  config.norm = configure.component("norm", "batch_norm")
  config.optimizer = configure.component("optimizer", "sgd", learning_rate=0.1)
  # Nothing is tuned: all that is held out validates.
  config.data = configure.component("data", "digits", tuning_split=False)
  return configure.override(
    config,
    {
      "train.num_steps": STEPS,
      "train.batch_size": SIZES[0],
      "train.gradient_clip": 0.0,
      "evaluate.every_steps": STEPS,
      "evaluate.num_batches": 0,
      "checkpoint.every_steps": 0,
      "log.every_steps": 20,
    },
  )


def _paper() -> ml_collections.ConfigDict:
  return imagenet.config(
    {
      "model.depth": 50,
      "optimizer.weight_decay": 1e-4,
      "optimizer.mask": "all",
      "schedule.name": "step_decay",
      "schedule.milestones": (0.3, 0.6, 0.9),
    }
  )


def _smaller(size: int) -> dict[str, int | float]:
  """Steps of `size` images, as many images in all."""
  parts = SIZES[0] // size
  return {
    "train.batch_size": size,
    "train.num_steps": STEPS * parts,
    "evaluate.every_steps": STEPS * parts,
    "log.every_steps": 20 * parts,
    "optimizer.learning_rate": 0.1 / parts,
  }


def _placed(norm: str, gpus: int, images: int) -> dict[str, int | float | str]:
  """A norm on so many GPUs of so many images each."""
  batch = gpus * images
  seen = images if gpus > 1 else None  # None: the whole step.
  options = {
    BN: {"norm.name": "batch_norm", "norm.virtual_batch_size": seen},
    GN: {"norm.name": "group_norm", "norm.num_groups": 32},
    SN: {"norm.name": "switchable_norm"},
  }
  return options[norm] | {
    **imagenet.epochs(100, batch),
    "optimizer.learning_rate": 0.1 * batch / 256,
  }


def _rows(scale: str) -> dict[tuple[str, str], dict[str, int | float | str]]:
  """(norm, column) to what a run has."""
  if scale == "proxy":
    return {
      (label, str(size)): norm | _smaller(size)
      for label, norm in NORMS.items()
      for size in SIZES
      if size > 1 or label in _ALONE
    }
  return {
    (norm, f"({gpus},{images})"): _placed(norm, gpus, images)
    for norm in (BN, GN, SN)
    for gpus, images in PLACES
    if norm != SN or gpus == 1
  }


def sweep(arg: str = "proxy") -> space.Sweep:
  """Norms by the images that they see together."""
  scale = _scale(arg)
  rows = _rows(scale)
  return space.Sweep(
    methods=list(rows.values()),
    labels=list(map(" ".join, rows)),
    seeds=(1, 2, 3, 4, 5) if scale == "proxy" else imagenet.SEEDS,
    metric="eval/accuracy",
    mode="max",
  )


def table(scale: str) -> papers.Table:
  """Accuracy by norm and images a batch."""
  return {"proxy": _proxy_table, "paper": _paper_table}[scale]()


def _proxy_table() -> papers.Table:
  source = "README table"
  return papers.Table(
    title="Norms by the size of the batch that they see",
    paper="switchable_norm_small_batch",
    target="README table",
    cells=_cells("proxy"),
    expected=[
      papers.above(
        (BN, "64"),
        (GN, "64"),
        by=-0.01,
        claim="at 64 images BN is not more than a point below GN",
        source=source,
      ),
      papers.below((BN, "2"), (GN, "2"), source=source),
      papers.below((BN, "1"), (GN, "1"), source=source),
      *(
        papers.within(
          (norm, "2"),
          (norm, "64"),
          of=0.01,
          claim=f"{norm} keeps its accuracy within a point from 64 to 2 images",
          source=(
            f"{source}: 75.9 at both"
            if norm == GN
            else "arXiv:1903.10520, abstract, the direction; the point is ours"
          ),
        )
        for norm in (GN, GN_WS, BCN_WS)
      ),
      papers.above(
        (SN, "2"),
        (SN, "64"),
        by=-0.013,
        claim="SN loses no more than the 1.3 points of the paper",
        source=f"{source}: 76.9 and 75.6",
      ),
    ],
    hardware="two CPU cores",
    differs=(
      "ResNet-8 of width 8 on 1,797 images of 8x8 digits in place of ResNet-50"
      " on ImageNet, four epochs; one device, of which each step is one batch;"
      " untuned."
    ),
    direction="higher",
  )


def _paper_table() -> papers.Table:
  source = "README table"
  return papers.Table(
    title="Norms by GPUs and images a GPU",
    paper="switchable_norm_small_batch",
    target="README table",
    cells=_cells("paper", paper=lambda norm, column: (norm, column)),
    expected=[
      papers.below((BN, "(8,2)"), (GN, "(8,2)"), by=0.05, source=source),
      papers.above((BN, "(8,32)"), (GN, "(8,32)"), source=source),
      papers.within((GN, "(8,2)"), (GN, "(8,32)"), of=0.01, source=source),
      papers.diverges((BN, "(8,1)"), source=source),
    ],
    hardware="eight GPUs; small batches take the most of the time",
    differs=(
      "Version 1.5 of ResNet-50; running statistics are of the whole step's"
      " images, on the paper's GPUs of one GPU's. SN has the rows of one GPU"
      " alone: its batch statistics here are always of the whole step."
    ),
    notes=(imagenet.ONE_RUN,),
    direction="higher",
  )


def _cells(scale: str, paper=lambda *_: None) -> list[papers.Cell]:
  return [
    papers.Cell(
      norm, column, method=f"{norm} {column}", paper=paper(norm, column)
    )
    for norm, column in _rows(scale)
  ]
