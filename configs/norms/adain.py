"""Adaptive instance normalization: Huang, Belongie 2017, arXiv:1703.06868."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The official code's defaults; the style is the context of a call."""
  return ml_collections.ConfigDict(
    {
      "name": "adain",
      "style_weight": 1.0,
      "content_weight": 0.0,
      "eps": 1e-5,
      "eps_placement": "inside",
      "variance": "biased",
    }
  )
