"""Stable-SPAM: Huang et al. 2025, arXiv:2502.17055.

State per matrix entry, in bytes: 8.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The official repository's defaults; its scripts for 350M reset every 500.

  Its `total_T`, the steps over which b1 and norm_b1 fall to half, is
  `cosine_steps` here; 0 leaves them alone, as it does.
  """
  return ml_collections.ConfigDict(
    {
      "name": "stable_spam",
      "learning_rate": 0.001,
      "b1": 0.9,
      "b2": 0.999,
      "eps": 1e-08,
      "norm_b1": 0.7,
      "norm_b2": 0.9,
      "threshold_beta": 0.999,
      "reset_every": 1000,
      "official_reset": False,
      "cosine_steps": 0,
      "cosine_end": 0.5,
      "weight_decay": 0.0,
    }
  )
