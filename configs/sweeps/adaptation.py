"""Which adaptation at test time helps, on which corruption, in which order?

Claim: statistics of the test batch undo much of what a corruption does
(arXiv:2006.10963), entropy minimization more (TENT, arXiv:2006.10726). Where
labels of a stream are correlated, both fall below the model as it was trained,
and mixtures of statistics do not (UnMix-TNS, arXiv:2401.08328).
Command: normjax sweep configs/sweeps/adaptation.py
Time: not measured; `--dry_run` says what runs.

A ResNet with batch norm learns digits, once per row and seed: rows of a seed
adapt the same model. Then it predicts five corruptions of severity 5, one after
the other, in a random order and in one in which examples of a class come
together (concentration 0.1), set back as the corruption changes. Each is a
column of its own.

Nothing is tuned: each method has its paper's numbers; TENT has those of its
repository for CIFAR-10, and a tenth and ten times its learning rate. The model
that is not adapted does not depend on the order, hence is there once.
"""

import ml_collections

from normjax import configure
from normjax import sweep as space

ADAPTERS = {
  "batch": "batch",
  "alpha-BN": "alpha_bn",
  "TENT": "tent(learning_rate=0.001)",
  "TENT, rate / 10": "tent(learning_rate=0.0001)",
  "TENT, rate x 10": "tent(learning_rate=0.01)",
  "UnMix-TNS": "unmix_tns",
  "LAME": "lame",
}
ORDERS = {
  "random": "reset_each_shift",
  "correlated": "reset_each_shift_correlated",
}
CORRUPTIONS = ("gaussian_noise", "gaussian_blur", "fog", "contrast", "pixelate")


def _methods() -> dict[str, dict]:
  found = {"source": {"evaluate.adapt.methods": ("source",)}}
  for order, stream in ORDERS.items():
    for name, method in ADAPTERS.items():
      found[f"{name}, {order}"] = {
        "evaluate.adapt.methods": (method,),
        "evaluate.adapt.stream": stream,
      }
  return found


METHODS = _methods()


def get_config() -> ml_collections.ConfigDict:
  """The run that all points share: a small ResNet on digits."""
  config = configure.load("configs/default.py")
  config.model = configure.component("model", "cifar_resnet", depth=8, width=8)
  config.norm = configure.component("norm", "batch_norm")
  config.data = configure.component("data", "digits")
  return configure.override(
    config,
    {
      "optimizer.learning_rate": 0.003,
      "train.batch_size": 64,
      "train.num_steps": 200,  # About nine epochs.
      "evaluate.every_steps": 200,
      "evaluate.adapt.methods": ("source",),
      "evaluate.adapt.corruptions": CORRUPTIONS,
      "checkpoint.every_steps": 0,
    },
  )


def sweep() -> space.Sweep:
  """Methods and orders of the stream, compared with the model as trained."""
  return space.Sweep(
    methods=list(METHODS.values()),
    labels=tuple(METHODS),
    seeds=(1, 2, 3, 4, 5),
    metric="eval/adapt/accuracy",
    mode="max",
    other_metrics=tuple(
      f"eval/adapt/accuracy/{name}_5" for name in CORRUPTIONS
    ),
  )
