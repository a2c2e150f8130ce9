"""Fashion-MNIST: Xiao et al. 2017, arXiv:1708.07747 (TFDS; MIT licence).

60,000 training and 10,000 test images, 28x28 grey, 10 classes.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults; data_dir is TFDS's unless given."""
  return ml_collections.ConfigDict(
    {
      "name": "fashion_mnist",
      "augment": False,
      "train_split": "train",
      "validation_split": "test",
      "scaling": "standardize",
      "data_dir": ml_collections.config_dict.placeholder(str),
    }
  )
