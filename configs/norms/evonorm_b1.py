"""EvoNorm-B1: Liu, Brock, Simonyan, Le 2020, arXiv:2004.02967."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The official code's momentum, eps and biased running variance."""
  return ml_collections.ConfigDict(
    {
      "name": "evonorm_b1",
      "momentum": 0.9,
      "eps": 1e-5,
      "running_variance": "biased",
      "nonlinearity": True,
    }
  )
