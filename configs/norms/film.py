"""Feature-wise linear modulation: Perez and others 2018, arXiv:1709.07871."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """A linear generator, as in the paper; num_domains is to be the data's."""
  return ml_collections.ConfigDict(
    {
      "name": "film",
      "num_domains": 1,
      "hidden_dim": 0,
    }
  )
