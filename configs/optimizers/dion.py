"""Dion: Ahn et al. 2025, arXiv:2504.05295.

State per matrix entry, in bytes: 4 + 4 inputs r / (k l).
"""

import ml_collections

from normjax import configure


def get_config() -> ml_collections.ConfigDict:
  """What microsoft/dion runs for its model of 160M, with half of the rank."""
  return ml_collections.ConfigDict(
    {
      "name": "dion",
      "learning_rate": 0.02,
      "momentum": 0.95,
      "eps": 1e-8,
      "rank_percent": ml_collections.FieldReference(
        50, field_type=configure.NUMBER
      ),
      "seed": 0,
      "weight_decay": 0.01,
      "fallback_learning_rate": ml_collections.config_dict.placeholder(float),
      "fallback_b1": 0.9,
      "fallback_b2": 0.95,
      "fallback_eps": 1e-8,
    }
  )
