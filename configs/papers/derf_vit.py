"""Do pointwise functions take the place of LayerNorm in ViTs on ImageNet?

Claim: DyT is above LayerNorm, Derf above both, in ViT-B and ViT-L
(arXiv:2512.10938; arXiv:2503.10622, table 1, has the same numbers of LayerNorm
and DyT).
Command: normjax reproduce derf_vit --scale=paper
Time: not measured; 300 epochs of ImageNet per row.

As the script of zlab-princeton/Derf: AdamW at 4e-3 for 4,096 images, 20 epochs
of warm-up, mixup 0.8 or CutMix 1, label smoothing 0.1, drop path 0.15 (ViT-B)
and 0.5 (ViT-L), an average of the weights with decay 0.9999, which is what is
evaluated. DyT's own README has drop path 0.1 and 0.4.
"""

import ml_collections

from normjax import papers
from normjax import sweep as space
from normjax.papers import imagenet

SCALES = ("paper",)
NORMS = {
  "LN": {"norm.name": "layer_norm", "norm.eps": 1e-6},
  "DyT": {"norm.name": "dyt"},
  "Derf": {"norm.name": "derf"},
}
NETWORKS = {
  "ViT-B": {"model.size": "base", "model.drop_path_rate": 0.15},
  "ViT-L": {
    "model.num_layers": 24,
    "model.num_heads": 16,
    "model.model_dim": 1024,
    "model.hidden_dim": 4096,
    "model.drop_path_rate": 0.5,
    "optimizer.b2": 0.95,
  },
}
# Without class token, with LayerNorm; the others have a scalar or two more in
# each of the 2 n + 1 norms of n blocks.
_COUNTS = {"ViT-B": (86_566_120, 25), "ViT-L": (304_324_584, 49)}


def _label(network: str, norm: str) -> str:
  return f"{network}, {norm}"


PARAMETERS = {
  "paper": {
    _label(network, norm): count + scalars * sites
    for network, (count, sites) in _COUNTS.items()
    for norm, scalars in (("LN", 0), ("DyT", 1), ("Derf", 2))
  }
}


def get_config(arg: str = "paper") -> ml_collections.ConfigDict:
  """The run that all points share."""
  space.words(arg, SCALES)
  return imagenet.config(
    {
      "model.name": "vit",
      "model.patch_size": 16,
      "model.pooling": "mean",
      "model.activation": "gelu_exact",
      "norm.name": "layer_norm",
      "optimizer.name": "adamw",
      "optimizer.learning_rate": 4e-3,
      "optimizer.weight_decay": 0.05,
      "schedule.warmup_fraction": 20 / 300,
      "schedule.final_fraction": 1e-6 / 4e-3,
      "train.label_smoothing": 0.1,
      "train.mixup_alpha": 0.8,
      "train.cutmix_alpha": 1.0,
      "train.ema_decay": 0.9999,
      "evaluate.weights": "ema",
      **imagenet.epochs(300, 4096),
    }
  )


def sweep(arg: str = "paper") -> space.Sweep:
  """Three functions in two networks."""
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
  return papers.Table(
    title="Pointwise functions in place of LayerNorm on ImageNet",
    paper="derf",
    target="ViT",
    cells=[
      papers.Cell(
        network, norm, method=_label(network, norm), paper=(norm, network)
      )
      for network in NETWORKS
      for norm in NORMS
    ],
    expected=[
      papers.above((network, more), (network, less), source="ViT")
      for network in NETWORKS
      for less, more in (("LN", "DyT"), ("DyT", "Derf"))
    ],
    hardware="32 GPUs for ViT-B, 64 for ViT-L, as the authors had",
    differs=(
      "Without RandAugment and random erasing, which are not among the recipes"
      " here. The table of positions decays, in timm it does not. No class"
      " token, and the last norm is before the mean over patches, in timm after"
      " it."
    ),
    notes=(imagenet.ONE_RUN,),
    direction="higher",
  )
