"""GaLore: Zhao et al. 2024, arXiv:2403.03507.

State per matrix entry, in bytes: (8 l + 4 k) r / (k l).
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """What the official code runs for LLaMA of 60M; rank 256 for 130M and 350M.

  The matrices' steps are a quarter of the other leaves', whose Adam has the
  same learning rate.
  """
  return ml_collections.ConfigDict(
    {
      "name": "galore",
      "learning_rate": 0.01,
      "b1": 0.9,
      "b2": 0.999,
      "eps": 1e-6,
      "rank": 128,
      "update_proj_gap": 200,
      "scale": 0.25,
      "weight_decay": 0.0,
    }
  )
