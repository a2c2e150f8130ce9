"""Compressed RMS normalization: Jiang et al. 2023, arXiv:2305.14858."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The eps of the authors' JAX code; their PyTorch code has 1e-5."""
  return ml_collections.ConfigDict(
    {
      "name": "crms_norm",
      "eps": 1e-6,
      "use_scale": True,
      "use_bias": False,
    }
  )
