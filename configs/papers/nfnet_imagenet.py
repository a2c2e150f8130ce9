"""How far do networks without norms get on ImageNet?

Claim: NFNets train at a batch of 4,096 without a norm, by adaptive gradient
clipping, and larger variants are better (arXiv:2102.06171).
Command: normjax reproduce nfnet_imagenet --scale=paper
Time: not measured; 360 epochs of ImageNet per row.

As the code of NFNet-F0 (deepmind-research, nfnets): a rate of 0.1 per 256
images, 5 epochs of warm-up, a cosine to 0, Nesterov momentum 0.9, decay 2e-5,
label smoothing 0.1, stochastic depth 0.25, mixup and CutMix on halves of a
batch, an average of the weights with decay 0.99999, bfloat16. The paper's
accuracies could not be read, so that none is printed.
"""

import ml_collections

from normjax import papers
from normjax import sweep as space
from normjax.papers import imagenet

SCALES = ("paper",)
# Parameters; table 6 of the paper has 71.5 and 132.6 million for the first two.
COUNTS = {
  "F0": 71_489_284,
  "F1": 132_634_256,
  "F2": 193_779_228,
  "F3": 254_924_200,
  "F4": 316_069_172,
  "F5": 377_214_144,
  "F6": 438_359_116,
}
BATCH = 4096


def _label(variant: str) -> str:
  return f"NFNet-{variant}"


PARAMETERS = {"paper": {_label(v): count for v, count in COUNTS.items()}}


def get_config(arg: str = "paper") -> ml_collections.ConfigDict:
  """The run that all points share."""
  space.words(arg, SCALES)
  return imagenet.config(
    {
      "model.name": "nfnet",
      "model.stochastic_depth_rate": 0.25,
      "norm.name": "identity",
      "optimizer.name": "nfnet_sgd",
      "optimizer.learning_rate": 0.1 * BATCH / 256,
      "schedule.warmup_fraction": 5 / 360,
      "train.precision": "bfloat16",
      "train.label_smoothing": 0.1,
      "train.mixup_alpha": 0.2,
      "train.cutmix_alpha": 1.0,
      "train.mixup_mode": "halves",
      "train.ema_decay": 0.99999,
      "train.ema_warmup": True,
      "evaluate.weights": "ema",
      **imagenet.epochs(360, BATCH),
    }
  )


def sweep(arg: str = "paper") -> space.Sweep:
  """Seven variants."""
  space.words(arg, SCALES)
  return space.Sweep(
    methods=[{"model.variant": variant} for variant in COUNTS],
    labels=list(map(_label, COUNTS)),
    seeds=imagenet.SEEDS,
    metric=imagenet.METRIC,
    mode="max",
  )


def table(scale: str) -> papers.Table:
  """Accuracy by variant."""
  del scale
  listed = "Papers with Code's list, second-hand"
  return papers.Table(
    title="NFNets on ImageNet by variant",
    paper="nfnet",
    target=None,
    cells=[papers.Cell(_label(variant)) for variant in COUNTS],
    expected=[
      papers.above("NFNet-F1", "NFNet-F0", source=f"{listed}: 84.7, 83.6"),
      papers.above("NFNet-F5", "NFNet-F1", source=f"{listed}: 86.0, 84.7"),
      papers.trains("NFNet-F0", source="abstract"),
    ],
    hardware="tens to hundreds of GPUs or TPU cores",
    differs=(
      "224 pixels in training and evaluation, where the code has 192 and 256"
      " for F0 and more for the others; no RandAugment."
    ),
    notes=(imagenet.ONE_RUN,),
    direction="higher",
  )
