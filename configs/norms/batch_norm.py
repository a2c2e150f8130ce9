"""Batch normalization: Ioffe, Szegedy 2015, arXiv:1502.03167."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """PyTorch's defaults; momentum weighs the old value (PyTorch's is 0.1)."""
  return ml_collections.ConfigDict(
    {
      "name": "batch_norm",
      "momentum": 0.9,
      "eps": 1e-5,
      "running_variance": "unbiased",
      "virtual_batch_size": ml_collections.config_dict.placeholder(int),
    }
  )
