"""Do AdamP and SGDP train ImageNet networks better than Adam and SGD?

Claim: each gains with the projection, on every network (arXiv:2006.08217, table
2 of the official page).
Command: normjax reproduce adamp_imagenet --scale=paper
Time: not measured; 100 epochs of ImageNet per row.

Rates and decays are those of `adamp_no_decay`: as the authors say, untuned.
MobileNetV2 is not among the models.
"""

import ml_collections

from normjax import papers
from normjax import sweep as space
from normjax.papers import adamp, imagenet

SCALES = ("paper",)
NETWORKS = {
  "ResNet-18": {"model.depth": 18},
  "ResNet-50": {"model.depth": 50},
  "ResNet-50 + CutMix": {"model.depth": 50, "train.cutmix_alpha": 1.0},
}
_COUNTS = {"ResNet-18": 11_689_512, "ResNet-50": 25_557_032}
_COUNTS["ResNet-50 + CutMix"] = _COUNTS["ResNet-50"]
# Where the table has each of the optimizers.
_GAINS = (("AdamP", "Adam"), ("SGDP", "SGD"))


def _label(network: str, optimizer: str) -> str:
  return f"{network}, {optimizer}"


PARAMETERS = {
  "paper": {
    _label(network, optimizer): _COUNTS[network]
    for network in NETWORKS
    for optimizer in adamp.OPTIMIZERS
  }
}


def get_config(arg: str = "paper") -> ml_collections.ConfigDict:
  """The run that all points share."""
  space.words(arg, SCALES)
  return imagenet.config(imagenet.epochs(100, 256))


def sweep(arg: str = "paper") -> space.Sweep:
  """Four optimizers on each network."""
  space.words(arg, SCALES)
  rows = {
    _label(network, optimizer): model | adamp.method(optimizer)
    for network, model in NETWORKS.items()
    for optimizer in adamp.OPTIMIZERS
  }
  return space.Sweep(
    methods=list(rows.values()),
    labels=list(rows),
    seeds=imagenet.SEEDS,
    metric=imagenet.METRIC,
    mode="max",
  )


def table(scale: str) -> papers.Table:
  """Accuracy by network and optimizer."""
  del scale
  source = "Table 2 (ImageNet)"
  return papers.Table(
    title="ImageNet accuracy with and without the projection",
    paper="adamp",
    target=source,
    cells=[
      papers.Cell(
        network,
        optimizer,
        method=_label(network, optimizer),
        paper=(network, optimizer),
      )
      for network in NETWORKS
      for optimizer in adamp.OPTIMIZERS
    ],
    expected=[
      papers.above((network, ours), (network, theirs), source=source)
      for network in NETWORKS
      for ours, theirs in _GAINS
    ],
    hardware="eight GPUs, some days",
    differs=(
      "Epochs, batch and schedule are the usual ones of these networks; the"
      " page does not say them. Its rows of MobileNetV2 are left out."
    ),
    notes=(imagenet.ONE_RUN,),
    direction="higher",
  )
