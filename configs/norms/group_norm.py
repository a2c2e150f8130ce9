"""Group normalization: Wu, He 2018, arXiv:1803.08494."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The paper's defaults."""
  return ml_collections.ConfigDict(
    {"name": "group_norm", "num_groups": 32, "eps": 1e-5}
  )
