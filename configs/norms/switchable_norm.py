"""Switchable normalization: Luo and others 2018, arXiv:1806.10779."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The official code's defaults for images."""
  return ml_collections.ConfigDict(
    {"name": "switchable_norm", "momentum": 0.9, "eps": 1e-5}
  )
