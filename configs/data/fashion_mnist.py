"""Fashion-MNIST: Xiao et al. 2017, arXiv:1708.07747 (TFDS)."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults; data_dir is TFDS's unless given."""
  return ml_collections.ConfigDict(
    {
      "name": "fashion_mnist",
      "augment": False,
      "data_dir": ml_collections.config_dict.placeholder(str),
    }
  )
