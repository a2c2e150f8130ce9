"""Does weight standardization bring group norm to batch norm on ImageNet?

Claim: with standardized kernels group norm is above batch norm, without them
below (arXiv:1903.10520, bar chart of the repository).
Command: normjax reproduce ws_imagenet --scale=paper
Time: not measured; 90 and 100 epochs of ImageNet per row.

As joe-siyuan-qiao/pytorch-classification: steps of 256 images, decay 1e-4, the
rate a tenth at epochs 30, 60 (of 90, ResNet-50) and 90 (of 100, ResNet-101).
The repository has no numbers of batch-channel normalization on ImageNet.
"""

import ml_collections

from normjax import papers
from normjax import sweep as space
from normjax.papers import imagenet

SCALES = ("paper",)
BN, GN, GN_WS = "BN", "GN", "GN+WS"
_GROUPS = {"norm.name": "group_norm", "norm.num_groups": 32}
NORMS = {
  GN: _GROUPS,
  BN: {"norm.name": "batch_norm"},
  GN_WS: _GROUPS | {"model.weight_norm": "weight_standardization"},
}
NETWORKS = {
  "ResNet-50": {
    "model.depth": 50,
    "schedule.milestones": (30 / 90, 60 / 90),
    **imagenet.epochs(90, 256),
  },
  "ResNet-101": {
    "model.depth": 101,
    "schedule.milestones": (0.3, 0.6, 0.9),
    **imagenet.epochs(100, 256),
  },
}
_COUNTS = {"ResNet-50": 25_557_032, "ResNet-101": 44_549_160}


def _label(network: str, norm: str) -> str:
  return f"{network}, {norm}"


PARAMETERS = {
  "paper": {
    _label(network, norm): _COUNTS[network]
    for network in NETWORKS
    for norm in NORMS
  }
}


def get_config(arg: str = "paper") -> ml_collections.ConfigDict:
  """The run that all points share."""
  space.words(arg, SCALES)
  return imagenet.config(
    {
      "schedule.name": "step_decay",
      "optimizer.learning_rate": 0.1,
      "optimizer.weight_decay": 1e-4,
      "optimizer.mask": "all",
      **NETWORKS["ResNet-50"],
    }
  )


def sweep(arg: str = "paper") -> space.Sweep:
  """Three norms in two networks."""
  space.words(arg, SCALES)
  rows = {
    _label(network, name): norm | model
    for network, model in NETWORKS.items()
    for name, norm in NORMS.items()
  }
  return space.Sweep(
    methods=list(rows.values()),
    labels=list(rows),
    seeds=imagenet.SEEDS,
    metric=imagenet.METRIC,
    mode="max",
  )


def table(scale: str) -> papers.Table:
  """Accuracy by network and norm."""
  del scale
  source = "bar chart top-1"
  return papers.Table(
    title="Group norm with standardized kernels on ImageNet",
    paper="bcn_ws",
    target=source,
    cells=[
      papers.Cell(
        network, norm, method=_label(network, norm), paper=(norm, network)
      )
      for network in NETWORKS
      for norm in NORMS
    ],
    expected=[
      *(
        papers.above((network, GN_WS), (network, BN), source=source)
        for network in NETWORKS
      ),
      *(
        papers.below((network, GN), (network, BN), source=source)
        for network in NETWORKS
      ),
    ],
    hardware="eight GPUs, some days",
    differs=(
      "Version 1.5 of the networks; the rate of 0.1 is the usual one, which the"
      " repository's page does not say."
    ),
    notes=(
      imagenet.ONE_RUN,
      "The bar chart is read to 0.1. For GN+WS the authors' training code"
      " prints errors of 23.72 and 22.10: accuracies of 76.28 and 77.90.",
    ),
    direction="higher",
  )
