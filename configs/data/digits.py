"""1,797 images of 8x8 digits, from scikit-learn (BSD-3-Clause)."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults."""
  return ml_collections.ConfigDict(
    {
      "name": "digits",
      "scaling": "standardize",
    }
  )
