"""Momentum in 8 bits: Dettmers et al. 2022, arXiv:2110.02861.

State per matrix entry, in bytes: 1.02.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """Momentum 0.9; bitsandbytes' SGD8bit leaves both rates to the user.

  There blocks are cut from the flattened tensor ("flat"), and embeddings have
  8-bit states too unless they are its own layers; here they keep 32 bits.
  """
  return ml_collections.ConfigDict(
    {
      "name": "momentum_8bit",
      "learning_rate": 0.1,
      "momentum": 0.9,
      "weight_decay": 0.0,
      "block_size": 256,
      "min_size": 4096,
      "block_layout": "rows",
    }
  )
