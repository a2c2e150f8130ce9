"""Unified Normalization: Yang et al. 2022, arXiv:2208.01313."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The official code's, which advises outlier_filtration for images."""
  return ml_collections.ConfigDict(
    {
      "name": "unified_norm",
      "window": 4,
      "warmup_steps": 4000,
      "outlier_filtration": False,
      "momentum": 0.9,
      "eps": 1e-5,
    }
  )
