"""APOLLO: Zhu et al. 2024, arXiv:2412.05270.

State per matrix entry, in bytes: 8 r / k.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """What the official code runs for LLaMA of 60M: a quarter of its width.

  For 130M it takes rank 192, a quarter too, and for 350M, 1B and 7B rank 256;
  for 350M at 1,024 tokens scale=2.0 (scripts/pretrain_c4 and
  pretrain_c4_long_context of zhuhanqing/APOLLO).
  """
  return ml_collections.ConfigDict(
    {
      "name": "apollo",
      "learning_rate": 0.01,
      "b1": 0.9,
      "b2": 0.999,
      "eps": 1e-6,
      "rank": 128,
      "update_proj_gap": 200,
      "scale": 1.0,
      "scale_type": "channel",
      "scale_front": False,
      "seed": 0,
      "weight_decay": 0.0,
    }
  )
