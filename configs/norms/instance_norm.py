"""Instance normalization: Ulyanov and others 2016, arXiv:1607.08022."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """PyTorch's eps; its default has neither scale nor bias."""
  return ml_collections.ConfigDict(
    {
      "name": "instance_norm",
      "eps": 1e-5,
      "use_scale": True,
      "use_bias": True,
    }
  )
