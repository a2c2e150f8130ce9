"""Self-rescaled dynamic normalization: arXiv:2510.22777."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """One head, as in its language models; eps is that of rms_norm here."""
  return ml_collections.ConfigDict(
    {
      "name": "seednorm",
      "num_heads": 1,
      "eps": 1e-6,
      "alpha_init": 1.0,
      "dot_divisor": "none",
    }
  )
