"""What tables on ImageNet share: the data as papers use it, and its epochs."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from normjax import configure

NUM_IMAGES = 1_281_167
SEEDS = (1, 2, 3)
ONE_RUN = (
  "--seeds=1 trains one run per row, which decides nothing; the three of a"
  " whole table decide what is large."
)
METRIC = "eval/accuracy"


def config(changes: Mapping[str, Any]) -> ConfigDict:
  """A run on all training images, evaluated on the validation images.

  Papers report those; in `configs/data/imagenet2012.py` they are the test
  split. Training images are random parts of 8% to 100%, resized, and mirrored
  half of the time. Nothing is clipped, and nothing warms up.

  Args:
    changes: what a table has otherwise or more.
  """
  made = configure.load("configs/default.py")
  made.model = configure.component("model", "resnet")
  made.norm = configure.component("norm", "batch_norm")
  made.optimizer = configure.component("optimizer", "sgd")
  made.data = configure.component(
    "data",
    "imagenet2012",
    augment=True,
    train_split="train",
    tuning_split="",
    validation_split="",
  )
  return configure.override(
    made,
    {
      "schedule.warmup_fraction": 0.0,
      "schedule.final_fraction": 0.0,
      "train.gradient_clip": 0.0,
      "evaluate.split": "test",
      "evaluate.num_batches": 0,
      "evaluate.batch_size": 200,
      "log.every_steps": 100,
      **changes,
    },
  )


def epochs(number: int, batch_size: int) -> dict[str, int]:
  """So many passes in steps of `batch_size`, the last short one left out.

  Evaluated in each tenth of them, and saved after each pass.
  """
  epoch = NUM_IMAGES // batch_size
  return {
    "train.batch_size": batch_size,
    "train.num_steps": number * epoch,
    "evaluate.every_steps": number * epoch // 10,
    "checkpoint.every_steps": epoch,
  }
