"""Does AdamP suffer less than Adam where no weight decays?

Claim: momentum lengthens weights that a norm follows; AdamP's projection stops
that, so that their norms grow less, and accuracy falls less where nothing
decays: by 0.31 points with AdamP, by 1.89 with Adam (arXiv:2006.08217, the
official page's table on weight decay).
Command: normjax reproduce adamp_no_decay --scale=proxy
Time: about a minute on two cores, compilation included.

All rows train with a rate of 1e-3 and a decay of 0.1 or 0 on all parameters, as
the authors say (clovaai/AdamP, issue 10: PyTorch's convention, which is also
ours). Nothing is tuned. Growth is the norm of a convolution's weights over that
at the start; every convolution has a batch norm after it.

`:proxy`: ResNet-8 on digits, 20 epochs of batches of 64 along a cosine.

`:paper`: ResNet-18 on ImageNet, SGD and SGDP, too. What neither page nor code
says is as usual for this network: 100 epochs of batches of 256, a cosine.
"""

import ml_collections

from normjax import configure, papers
from normjax import sweep as space
from normjax.papers import adamp, imagenet

SCALES = ("proxy", "paper")
PARAMETERS = {"paper": 11_689_512}  # ResNet-18, as torchvision's.
DECAYS, NONE = "with weight decay", "without"
ADAM, ADAMP, SGD, SGDP = "Adam", "AdamP", "SGD", "SGDP"
ROWS = {"proxy": (ADAM, ADAMP), "paper": (SGD, SGDP, ADAM, ADAMP)}
CONVOLUTIONS = {"stem": "stem/conv/kernel"} | {
  f"block {block}, {place}": f"layers/{block - 1}/convs/{index}/conv/kernel"
  for block in (1, 2, 3)
  for index, place in enumerate(("first", "second"))
}
GROWTH = {
  f"growth of {place}": f"growth(weight_norm/{path})"
  for place, path in CONVOLUTIONS.items()
}


def _scale(arg: str) -> str:
  return (space.words(arg, SCALES) or SCALES)[0]


def _label(optimizer: str, decay: str) -> str:
  return f"{optimizer} {decay}"


def get_config(arg: str = "proxy") -> ml_collections.ConfigDict:
  """The run that all points share."""
  return {"proxy": _proxy, "paper": _paper}[_scale(arg)]()


def _proxy() -> ml_collections.ConfigDict:
  config = configure.load("configs/default.py")
  config.model = configure.component("model", "cifar_resnet", depth=8, width=8)
  config.norm = configure.component("norm", "batch_norm")
  config.optimizer = configure.component("optimizer", "adamw")
  # Nothing is tuned: all that is held out validates.
  config.data = configure.component("data", "digits", tuning_split=False)
  steps = 20 * (1_438 // 64) + 1  # One more: the last row is after the last.
  return configure.override(
    config,
    {
      "schedule.warmup_fraction": 0.0,
      "schedule.final_fraction": 0.0,
      "train.num_steps": steps,
      "train.batch_size": 64,
      "train.gradient_clip": 0.0,
      "evaluate.every_steps": steps,
      "evaluate.num_batches": 0,
      "checkpoint.every_steps": 0,
      "log.every_steps": 44,  # Two epochs.
      "log.probes": ("weight_norm/.*conv/kernel",),
    },
  )


def _paper() -> ml_collections.ConfigDict:
  return imagenet.config({"model.depth": 18, **imagenet.epochs(100, 256)})


def sweep(arg: str = "proxy") -> space.Sweep:
  """Optimizers with and without decay."""
  scale = _scale(arg)
  rows = {
    _label(name, decay): adamp.method(name, decays=decay == DECAYS)
    for name in ROWS[scale]
    for decay in (DECAYS, NONE)
  }
  return space.Sweep(
    methods=list(rows.values()),
    labels=list(rows),
    seeds=(1, 2, 3, 4, 5) if scale == "proxy" else imagenet.SEEDS,
    metric="eval/accuracy",
    mode="max",
    other_metrics=tuple(GROWTH.values()) if scale == "proxy" else (),
  )


def table(scale: str) -> papers.Table:
  """Accuracy with and without decay, and how far weights grow."""
  source = "weight decay removed"
  falls_less = papers.Expected(
    "without decay the accuracy falls more with Adam than with AdamP",
    {
      (ADAM, DECAYS): 1.0,
      (ADAM, NONE): -1.0,
      (ADAMP, DECAYS): -1.0,
      (ADAMP, NONE): 1.0,
    },
    at_least=0.0,
    source=source,
  )
  accuracies = [
    papers.Cell(name, decay, method=_label(name, decay), paper=(name, decay))
    for name in ROWS[scale]
    for decay in (DECAYS, NONE)
  ]
  if scale == "paper":
    return papers.Table(
      title="ImageNet accuracy without weight decay",
      paper="adamp",
      target=source,
      cells=accuracies,
      expected=[falls_less],
      hardware="one GPU, some days; eight, some hours",
      differs=(
        "Epochs, batch and schedule are the usual ones of ResNet-18; the page"
        " does not say them."
      ),
      notes=(imagenet.ONE_RUN,),
      direction="higher",
    )
  growth = [
    papers.Cell(name, column, method=_label(name, NONE), metric=metric)
    for name in (ADAM, ADAMP)
    for column, metric in GROWTH.items()
  ]
  return papers.Table(
    title="Accuracy and growth of weights without weight decay",
    paper="adamp",
    target=source,
    cells=[*accuracies, *growth],
    expected=[
      falls_less,
      *(
        papers.above(
          (ADAM, column),
          (ADAMP, column),
          claim=f"{column} is larger with Adam than with AdamP",
          source="abstract",
        )
        for column in GROWTH
      ),
    ],
    hardware="two CPU cores",
    differs=(
      "ResNet-8 of width 8 on 1,797 images of 8x8 digits in place of ResNet-18"
      " on ImageNet, 20 epochs; the paper's rate and decay, untuned."
    ),
    notes=(
      "Columns of growth are norms of weights at the end over those at the"
      " start, trained without decay.",
    ),
    direction="",
  )
