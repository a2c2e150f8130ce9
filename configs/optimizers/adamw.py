"""AdamW: Loshchilov, Hutter 2019, arXiv:1711.05101.

State per matrix entry, in bytes: 8.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """Adam's defaults, arXiv:1412.6980; the decay is optax's."""
  return ml_collections.ConfigDict(
    {
      "name": "adamw",
      "learning_rate": 1e-3,
      "b1": 0.9,
      "b2": 0.999,
      "eps": 1e-8,
      "weight_decay": 1e-4,
    }
  )
