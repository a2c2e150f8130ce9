"""Mean squared error of predicted values, for regression."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """No options."""
  return ml_collections.ConfigDict({"name": "squared_error"})
