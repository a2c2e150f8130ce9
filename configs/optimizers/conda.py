"""Conda: Wang et al. 2025, arXiv:2509.24218.

State per matrix entry, in bytes: 8 + 4 k / l.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """What the official code runs for LLaMA from 60M to 1B.

  The matrices' steps are a quarter of the other leaves', whose Adam has the
  same learning rate.
  """
  return ml_collections.ConfigDict(
    {
      "name": "conda",
      "learning_rate": 0.01,
      "b1": 0.9,
      "b2": 0.99,
      "eps": 1e-8,
      "update_proj_gap": 2000,
      "scale": 0.25,
      "rerotate_second_moment": False,
      "weight_decay": 0.0,
    }
  )
