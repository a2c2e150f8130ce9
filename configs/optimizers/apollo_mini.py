"""APOLLO-Mini: Zhu et al. 2024, arXiv:2412.05270.

State per matrix entry, in bytes: 8 / k.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """What the official code runs for LLaMA of 350M and above at 256 tokens.

  For 60M it sets scale_front=True, for 130M that and scale=192.0, a quarter of
  the width; for 350M at 1,024 tokens scale=384.0 (scripts/pretrain_c4 and
  pretrain_c4_long_context of zhuhanqing/APOLLO).
  """
  return ml_collections.ConfigDict(
    {
      "name": "apollo_mini",
      "learning_rate": 0.01,
      "b1": 0.9,
      "b2": 0.999,
      "eps": 1e-6,
      "update_proj_gap": 200,
      "scale": 128.0,
      "scale_front": False,
      "seed": 0,
      "weight_decay": 0.0,
    }
  )
