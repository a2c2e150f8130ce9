"""Bounded hyperbolic tanh: arXiv:2601.09719."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The paper's lam and kappa, its variance handed on within a block."""
  return ml_collections.ConfigDict(
    {
      "name": "bhyt",
      "lam_init": 1.0,
      "kappa": 10.0,
      "eps": 1e-6,
      "variance": "handed_on",
    }
  )
