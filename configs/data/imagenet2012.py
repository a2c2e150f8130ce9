"""ImageNet, ILSVRC 2012: Russakovsky et al. 2015, arXiv:1409.0575 (TFDS)."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults; data_dir is TFDS's unless given."""
  return ml_collections.ConfigDict(
    {
      "name": "imagenet2012",
      "augment": False,
      "data_dir": ml_collections.config_dict.placeholder(str),
    }
  )
