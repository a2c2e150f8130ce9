"""MNIST (TFDS)."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults; data_dir is TFDS's unless given."""
  return ml_collections.ConfigDict(
    {
      "name": "mnist",
      "augment": False,
      "data_dir": ml_collections.config_dict.placeholder(str),
    }
  )
