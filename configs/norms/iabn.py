"""Instance-aware batch normalization: Gong et al. 2022, arXiv:2208.05117."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The paper's; momentum weighs the old value."""
  return ml_collections.ConfigDict(
    {
      "name": "iabn",
      "threshold": 4.0,
      "momentum": 0.9,
      "eps": 1e-5,
      "skip_positions": 1,
    }
  )
