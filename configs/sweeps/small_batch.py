"""Which norms hold where the batch of the statistics gets small?

Claim: with group norm, with weight standardization and with batch-channel
normalization accuracy stays where batch norm's falls, at 64, 8, 2 and 1 images
a normalized batch (arXiv:1803.08494, figure 1; arXiv:1903.10520).
Command: normjax sweep configs/sweeps/small_batch.py
Time: about 5 minutes on two cores, compilation included.

ResNet-8 on real digits, 8x8 pixels. All rows take the same steps of 64 images;
what changes is in how many micro-batches those come, each normalized by
itself, as on the papers' GPUs. Running statistics take one step with the mean
over the micro-batches, so that small ones make them no noisier. Group norm does
not mix images: its rows differ by rounding only. `:updates` asks the other
question, in somewhat more time: steps of 64, 8, 2 and 1 images, learning rates
linear in that, as many images in all.
"""

import ml_collections

from normjax import configure, errors
from normjax import sweep as space

WHOLE_BATCH = 64
STEPS = 220  # About ten epochs.
SIZES = (64, 8, 2, 1)
# Groups of two channels in the first stage and of eight in the last.
NORMS = {
  "batch_norm": {"norm.name": "batch_norm"},
  "group_norm": {"norm.name": "group_norm", "norm.num_groups": 4},
  "group_norm and weight standardization": {
    "norm.name": "group_norm",
    "norm.num_groups": 4,
    "model.weight_norm": "weight_standardization",
  },
  # With the statistics that the paper estimates for micro-batches, and with
  # weight standardization, as everywhere there.
  "bcn and weight standardization": {
    "norm.name": "bcn",
    "norm.num_groups": 4,
    "norm.estimated": True,
    "model.weight_norm": "weight_standardization",
  },
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The run that all points share."""
  _check(arg)
  config = configure.load("configs/default.py")
  config.model = configure.component("model", "cifar_resnet", depth=8, width=8)
  config.norm = configure.component("norm", "batch_norm")
  config.optimizer = configure.component("optimizer", "sgd")
  config.data = configure.component("data", "digits")
  return configure.override(
    config,
    {
      "optimizer.learning_rate": 0.1,
      "train.num_steps": STEPS,
      "train.batch_size": WHOLE_BATCH,
      "train.gradient_clip": 0.0,
      "evaluate.every_steps": STEPS,
      "evaluate.num_batches": 0,
      "checkpoint.every_steps": 0,
      "log.every_steps": 20,
    },
  )


def _check(arg: str) -> None:
  if arg not in ("", "updates"):
    raise errors.UserError(f"unknown argument {arg!r}; allowed: updates")


def _batch(size: int, arg: str) -> dict[str, int | float]:
  """What gives the norms `size` images at once."""
  if not arg:
    return {"train.accumulation_steps": WHOLE_BATCH // size}
  shared = get_config()
  parts = WHOLE_BATCH // size
  return {
    "train.batch_size": size,
    "train.num_steps": STEPS * parts,
    "evaluate.every_steps": STEPS * parts,
    "log.every_steps": shared.log.every_steps * parts,
    "optimizer.learning_rate": shared.optimizer.learning_rate / parts,
  }


def sweep(arg: str = "") -> space.Sweep:
  """Four norms at four sizes, five seeds."""
  _check(arg)
  rows = {
    f"{label}, {size}": norm | _batch(size, arg)
    for label, norm in NORMS.items()
    for size in SIZES
  }
  return space.Sweep(
    methods=list(rows.values()),
    labels=list(rows),
    seeds=(1, 2, 3, 4, 5),
    metric="eval/accuracy",
    mode="max",
  )
