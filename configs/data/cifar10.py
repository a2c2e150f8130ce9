"""CIFAR-10: Krizhevsky 2009 (TFDS).

50,000 training and 10,000 test images, 32x32 RGB, 10 classes. The test set
is what papers report; to tune on something else, set
train_split="train[:90%]" and validation_split="train[90%:]".
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults; data_dir is TFDS's unless given."""
  return ml_collections.ConfigDict(
    {
      "name": "cifar10",
      "augment": False,
      "train_split": "train",
      "validation_split": "test",
      "scaling": "standardize",
      "data_dir": ml_collections.config_dict.placeholder(str),
    }
  )
