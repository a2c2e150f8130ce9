"""Euclidean normalization, as in nGPT, arXiv:2410.01131."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """As nGPT has it; its queries and keys have a scale."""
  return ml_collections.ConfigDict(
    {
      "name": "l2_norm",
      "eps": 0.0,
      "use_scale": False,
    }
  )
