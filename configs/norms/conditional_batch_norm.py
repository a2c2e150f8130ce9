"""Conditional batch normalization: de Vries and others, arXiv:1707.00683."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """A table of offsets to scale and bias; num_domains is to be the data's."""
  return ml_collections.ConfigDict(
    {
      "name": "conditional_batch_norm",
      "num_domains": 1,
      "hidden_dim": 0,
      "momentum": 0.9,
      "eps": 1e-5,
      "running_variance": "unbiased",
    }
  )
