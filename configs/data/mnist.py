"""MNIST: LeCun et al. 1998 (TFDS).

60,000 training and 10,000 test images, 28x28 grey, 10 classes.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults; data_dir is TFDS's unless given."""
  return ml_collections.ConfigDict(
    {
      "name": "mnist",
      "augment": False,
      "train_split": "train",
      "validation_split": "test",
      "scaling": "standardize",
      "data_dir": ml_collections.config_dict.placeholder(str),
    }
  )
