"""Batch renormalization: Ioffe 2017, arXiv:1702.03275."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The paper's schedule of both bounds, in steps, and its alpha of 0.01."""
  return ml_collections.ConfigDict(
    {
      "name": "batch_renorm",
      "momentum": 0.99,
      "eps": 1e-5,
      "r_max": 3.0,
      "d_max": 5.0,
      "warmup_steps": 5_000,
      "r_max_steps": 40_000,
      "d_max_steps": 25_000,
    }
  )
