"""Domain-specific batch normalization: Chang and others, arXiv:1906.03950."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The official code's defaults; num_domains is to be the data's."""
  return ml_collections.ConfigDict(
    {
      "name": "dsbn",
      "num_domains": 1,
      "momentum": 0.9,
      "eps": 1e-5,
      "running_variance": "unbiased",
    }
  )
