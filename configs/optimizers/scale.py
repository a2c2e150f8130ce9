"""SCALE: Glentis, Li, Han, Hong 2025, arXiv:2506.16659.

State per matrix entry, in bytes: 0, of the head's 4.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The official scripts' numbers for 60M to 350M parameters.

  Those of 1B and 7B have rates of 2e-4 and 1e-4, and 1e-3 for the Adam of the
  vectors, which elsewhere takes the matrices' rate: that is what None means.
  """
  return ml_collections.ConfigDict(
    {
      "name": "scale",
      "learning_rate": 0.001,
      "momentum": 0.9,
      "eps": 1e-8,
      "weight_decay": 0.0,
      "fallback_learning_rate": ml_collections.config_dict.placeholder(float),
      "fallback_b1": 0.9,
      "fallback_b2": 0.999,
      "fallback_eps": 1e-8,
    }
  )
