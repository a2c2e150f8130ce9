"""Continual normalization: Pham, Liu, Hoi 2022, arXiv:2203.16102."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """32 groups; `use_affine=False` is how its authors have run it."""
  return ml_collections.ConfigDict(
    {
      "name": "cn",
      "num_groups": 32,
      "momentum": 0.9,
      "eps": 1e-5,
      "use_affine": True,
    }
  )
