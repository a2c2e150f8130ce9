"""Normalized gradient descent: Hazan et al. 2015, arXiv:1507.02030.

State per matrix entry, in bytes: 0.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """One norm of the whole gradient, as the paper; the rate is ours."""
  return ml_collections.ConfigDict(
    {
      "name": "normalized_gd",
      "learning_rate": 0.1,
      "eps": 0.0,
      "per": "tree",
      "weight_decay": 0.0,
    }
  )
