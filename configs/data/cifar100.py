"""CIFAR-100: Krizhevsky 2009 (TFDS).

50,000 training and 10,000 test images, 32x32 RGB, 100 classes. Cut
into 40,000 to train, 5,000 to tune and 5,000 to validate on; papers train on
all 50,000: train_split="train", tuning_split="", validation_split="" and
evaluate.split="test".
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults; data_dir is TFDS's unless given."""
  return ml_collections.ConfigDict(
    {
      "name": "cifar100",
      "augment": False,
      "train_split": "train[:80%]",
      "tuning_split": "train[80%:90%]",  # to make choices on
      "validation_split": "train[90%:]",
      "test_split": "test",  # read with evaluate.split="test" alone
      "scaling": "standardize",
      "threads": 1,  # that make batches ahead of the step; 0: none ahead
      "workers": 0,  # processes that do, in place of the threads
      "data_dir": ml_collections.config_dict.placeholder(str),
    }
  )
