"""Lion with an 8-bit momentum: arXiv:2302.06675, arXiv:2110.02861.

State per matrix entry, in bytes: 1.02.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults of bitsandbytes' Lion8bit, but for where the 8 bits are.

  There blocks are cut from the flattened tensor ("flat"), and embeddings have
  8-bit states too unless they are its own layers; here they keep 32 bits.
  """
  return ml_collections.ConfigDict(
    {
      "name": "lion_8bit",
      "learning_rate": 0.0001,
      "b1": 0.9,
      "b2": 0.99,
      "weight_decay": 0.0,
      "block_size": 256,
      "min_size": 4096,
      "block_layout": "rows",
    }
  )
