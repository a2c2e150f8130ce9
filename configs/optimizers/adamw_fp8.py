"""AdamW with moments in FP8, e4m3: torchao's.

State per matrix entry, in bytes: 2.03.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults of torchao's AdamWFp8, but for where the FP8 is.

  There blocks are cut from the flattened tensor ("flat"), and embeddings have
  FP8 states too.
  """
  return ml_collections.ConfigDict(
    {
      "name": "adamw_fp8",
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
