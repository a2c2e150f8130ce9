"""569 tumours, 30 features, 2 classes, from scikit-learn (BSD-3-Clause)."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults."""
  return ml_collections.ConfigDict(
    {
      "name": "breast_cancer",
    }
  )
