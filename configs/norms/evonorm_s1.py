"""EvoNorm-S1: Liu, Brock, Simonyan, Le 2020, arXiv:2004.02967."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The official code's groups and eps."""
  return ml_collections.ConfigDict(
    {"name": "evonorm_s1", "num_groups": 32, "eps": 1e-5, "nonlinearity": True}
  )
