"""Lion: Chen et al. 2023, arXiv:2302.06675.

State per matrix entry, in bytes: 4.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The rates of arXiv:2302.06675, algorithm 2; the decay is optax's."""
  return ml_collections.ConfigDict(
    {
      "name": "lion",
      "learning_rate": 1e-4,
      "b1": 0.9,
      "b2": 0.99,
      "weight_decay": 1e-3,
    }
  )
