"""ImageNet, ILSVRC 2012: Russakovsky et al. 2015, arXiv:1409.0575 (TFDS).

1,281,167 training and 50,000 validation images, 1,000 classes, cut to 224x224;
non-commercial terms, downloaded by hand after registration. Papers report the
validation images: here they are the test split, and a hundredth of the training
images tunes, another one validates, 12,812 each.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults; data_dir is TFDS's unless given."""
  return ml_collections.ConfigDict(
    {
      "name": "imagenet2012",
      "augment": False,
      "train_split": "train[:98%]",
      "tuning_split": "train[98%:99%]",  # to make choices on
      "validation_split": "train[99%:]",
      "test_split": "validation",  # read with evaluate.split="test" alone
      "scaling": "standardize",
      "threads": 1,  # that make batches ahead of the step; 0: none ahead
      "workers": 0,  # processes that do, in place of the threads
      "data_dir": ml_collections.config_dict.placeholder(str),
    }
  )
