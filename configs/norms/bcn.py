"""Batch-channel normalization: Qiao and others 2019, arXiv:1903.10520."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The official code's groups and eps, with the statistics of large batches.

  For micro-batches: `estimated=True`, whose rate the official code leaves open.
  """
  return ml_collections.ConfigDict(
    {
      "name": "bcn",
      "num_groups": 32,
      "estimated": False,
      "update_rate": 0.1,
      "eps": 1e-5,
    }
  )
