"""CIFAR-10-C: Hendrycks, Dietterich 2019, arXiv:1903.12261 (TFDS; CC BY 4.0).

CIFAR-10's 10,000 test images under one corruption, "<kind>_<severity 1 to 5>",
are the test split: evaluate.split="test". What validates is a tenth of the
training images under the same corruption by `normjax.data.corruptions`, which
has all but frost and spatter; choices are made on clean ones. Both sets must be
prepared.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults; data_dir is TFDS's unless given."""
  return ml_collections.ConfigDict(
    {
      "name": "cifar10_corrupted",
      "corruption": "gaussian_noise_1",
      "augment": False,
      "train_split": "train[:80%]",  # these three of CIFAR-10
      "tuning_split": "train[80%:90%]",
      "validation_split": "train[90%:]",
      "scaling": "standardize",
      "threads": 1,  # that make batches ahead of the step; 0: none ahead
      "workers": 0,  # processes that do, in place of the threads
      "data_dir": ml_collections.config_dict.placeholder(str),
    }
  )
