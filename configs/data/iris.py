"""150 irises, 4 features, 3 classes, from scikit-learn (BSD-3-Clause)."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults."""
  return ml_collections.ConfigDict(
    {
      "name": "iris",
    }
  )
