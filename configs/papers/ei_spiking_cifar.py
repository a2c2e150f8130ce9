"""What do deep spiking networks without a norm reach on CIFAR?

Claim: with excitatory and inhibitory cells VGG-8, 11, 16, 19 and a ResNet-18
reach 87.03, 88.43, 91.01, 91.36 and 92.06% on CIFAR-10, VGG-16 and 19 reach
65.90 and 64.06% on CIFAR-100 (README of vwOvOwv/DeepEISNN; one run each).
Command: normjax reproduce ei_spiking_cifar --scale=paper
Time: not measured; 300 epochs of each network want an accelerator.

The official recipe: T = 4, SGD with the momentum and decay of the code, batches
of 128, a cosine after 30 epochs of warm-up (10 of VGG-8 and 11), pixels in
[0, 1], shifts and mirrors. Its Cutout is not there.
"""

from typing import Any

import ml_collections

from normjax import configure, papers
from normjax import sweep as space

SCALES = ("paper",)
CIFAR100 = "cifar100"
_STEPS_PER_EPOCH, _EPOCHS = 391, 300


def _row(
  model: str, depth: int, learning_rate: float, warmup_epochs: int
) -> dict[str, Any]:
  return {
    "model.name": model,
    "model.depth": depth,
    "model.dynamics": "excitatory_inhibitory",
    "optimizer.learning_rate": learning_rate,
    "schedule.warmup_fraction": warmup_epochs / _EPOCHS,
  }


METHODS = {
  "VGG-8": _row("spiking_vgg", 8, 2e-3, 10),
  "VGG-11": _row("spiking_vgg", 11, 2e-3, 10),
  "VGG-16": _row("spiking_vgg", 16, 1e-3, 30),
  "VGG-19": _row("spiking_vgg", 19, 1e-3, 30),
  "ResNet-18": _row("sew_resnet", 18, 1e-3, 30),
}
ROWS = {papers.SWEEP: tuple(METHODS), CIFAR100: ("VGG-16", "VGG-19")}


def _part(arg: str) -> str:
  """Which data set an argument asks for."""
  space.words(arg, (*SCALES, CIFAR100))
  return CIFAR100 if CIFAR100 in arg else papers.SWEEP


def get_config(arg: str = "paper") -> ml_collections.ConfigDict:
  """The run that all points share: VGG-16."""
  config = configure.override(
    configure.load("configs/default.py"),
    {
      "model.name": "spiking_vgg",
      "norm.name": "identity",
      "optimizer.name": "ei_sgd",
      "data.name": CIFAR100 if _part(arg) == CIFAR100 else "cifar10",
      "data.scaling": "unit",
      "data.augment": True,
      # The source trains on all of it, and reports the test set.
      "data.train_split": "train",
      "data.tuning_split": "",
      "data.validation_split": "",
      "evaluate.split": "test",
      "schedule.final_fraction": 0.0,
      "train.num_steps": _EPOCHS * _STEPS_PER_EPOCH,
      "train.batch_size": 128,
      "train.gradient_clip": 0.0,
      "evaluate.every_steps": 10 * _STEPS_PER_EPOCH,
      "evaluate.num_batches": 0,
      "evaluate.batch_size": 200,
      "checkpoint.every_steps": 10 * _STEPS_PER_EPOCH,
      "log.every_steps": 100,
    },
  )
  return configure.override(config, METHODS["VGG-16"])


def sweep(arg: str = "paper") -> space.Sweep:
  """The networks of a data set, three seeds; the README has one."""
  rows = ROWS[_part(arg)]
  return space.Sweep(
    methods=[METHODS[row] for row in rows],
    labels=list(rows),
    seeds=(1, 2, 3),
    metric="eval/accuracy",
    mode="max",
  )


def table(scale: str) -> papers.Table:
  """Networks by data set."""
  del scale
  columns = {papers.SWEEP: "CIFAR-10", CIFAR100: "CIFAR-100"}
  source = "README"

  def ref(row):
    return row, columns[papers.SWEEP]

  return papers.Table(
    title="Accuracy of spiking networks without norms on CIFAR",
    paper="ei_spiking",
    target="README",
    cells=[
      papers.Cell(
        row, column, part=part, paper=(f"{column} {row} T=4", "top-1")
      )
      for part, column in columns.items()
      for row in ROWS[part]
    ],
    expected=[
      papers.above(ref("VGG-16"), ref("VGG-8"), source=source),
      papers.above(ref("ResNet-18"), ref("VGG-16"), source=source),
    ],
    hardware="one GPU",
    differs="Without Cutout; three seeds in place of one.",
    parts=tuple(columns),
    notes=(
      "Not there for want of data: DVS-Gesture, CIFAR10-DVS, TinyImageNet.",
    ),
    direction="higher",
  )
