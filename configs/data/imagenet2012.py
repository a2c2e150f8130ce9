"""ImageNet, ILSVRC 2012: Russakovsky et al. 2015, arXiv:1409.0575 (TFDS).

1,281,167 training and 50,000 validation images, 1,000 classes, cut to 224x224;
non-commercial terms, downloaded by hand after registration.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults; data_dir is TFDS's unless given."""
  return ml_collections.ConfigDict(
    {
      "name": "imagenet2012",
      "augment": False,
      "train_split": "train",
      "validation_split": "validation",
      "scaling": "standardize",
      "data_dir": ml_collections.config_dict.placeholder(str),
    }
  )
