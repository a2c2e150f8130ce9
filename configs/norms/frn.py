"""Filter response normalization: Singh, Krishnan 2019, arXiv:1911.09737."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The paper's eps and its thresholded linear unit."""
  return ml_collections.ConfigDict(
    {
      "name": "frn",
      "eps": 1e-6,
      "learned_eps": False,
      "learned_eps_init": 1e-4,
      "tlu": True,
    }
  )
