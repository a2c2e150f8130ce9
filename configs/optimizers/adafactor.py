"""Adafactor: Shazeer, Stern 2018, arXiv:1804.04235.

State per matrix entry, in bytes: 4 / k + 4 / l.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The paper's constants; its relative rate is min(1e-2, 1 / sqrt(t))."""
  return ml_collections.ConfigDict(
    {
      "name": "adafactor",
      "learning_rate": 1e-2,
      "decay_rate": 0.8,
      "eps": 1e-30,
      "min_dim_size_to_factor": 128,
      "clipping_threshold": 1.0,
      "multiply_by_parameter_scale": True,
      "min_parameter_scale": 1e-3,
      "weight_decay": 0.0,
    }
  )
