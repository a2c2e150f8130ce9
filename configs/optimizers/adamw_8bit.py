"""AdamW with 8-bit moments: Dettmers et al. 2022, arXiv:2110.02861.

State per matrix entry, in bytes: 2.03.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults of bitsandbytes' AdamW8bit, but for where the 8 bits are.

  There blocks are cut from the flattened tensor ("flat"), and embeddings have
  8-bit states too unless they are its own layers; here they keep 32 bits.
  """
  return ml_collections.ConfigDict(
    {
      "name": "adamw_8bit",
      "learning_rate": 0.001,
      "b1": 0.9,
      "b2": 0.999,
      "eps": 1e-08,
      "weight_decay": 0.01,
      "block_size": 256,
      "min_size": 4096,
      "block_layout": "rows",
    }
  )
