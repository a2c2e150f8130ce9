"""CIFAR-10-C: Hendrycks, Dietterich 2019, arXiv:1903.12261 (TFDS; CC BY 4.0).

Trains on CIFAR-10, evaluates on its 10,000 test images under one corruption,
"<kind>_<severity 1 to 5>"; both sets must be prepared.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults; data_dir is TFDS's unless given."""
  return ml_collections.ConfigDict(
    {
      "name": "cifar10_corrupted",
      "corruption": "gaussian_noise_1",
      "augment": False,
      "scaling": "standardize",
      "data_dir": ml_collections.config_dict.placeholder(str),
    }
  )
