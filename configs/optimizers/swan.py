"""SWAN: Ma, Gong, Scetbon, Meeds 2025, arXiv:2412.13148.

State per matrix entry, in bytes: 0.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The most common public reading; the rates are those of SinkGD.

  The paper's own rates were not available, nor is there official code.
  """
  return ml_collections.ConfigDict(
    {
      "name": "swan",
      "learning_rate": 0.02,
      "preset": "inexact",
      "side": "output",
      "matrix_scale": 0.05,
      "weight_decay": 0.0,
      "fallback_learning_rate": ml_collections.config_dict.placeholder(float),
      "fallback_b1": 0.9,
      "fallback_b2": 0.999,
      "fallback_eps": 1e-8,
    }
  )
