"""ScaleNorm: Nguyen, Salazar 2019, arXiv:1910.05895."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The floor under the length is that of the authors' code."""
  return ml_collections.ConfigDict(
    {
      "name": "scale_norm",
      "eps": 1e-5,
    }
  )
