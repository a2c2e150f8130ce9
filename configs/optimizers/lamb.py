"""LAMB: You et al. 2020, arXiv:1904.00962.

State per matrix entry, in bytes: 8.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """Adam's rates and the decay of the paper's BERT; the rate is small-batch."""
  return ml_collections.ConfigDict(
    {
      "name": "lamb",
      "learning_rate": 1e-3,
      "b1": 0.9,
      "b2": 0.999,
      "eps": 1e-6,
      "weight_decay": 0.01,
    }
  )
