"""Softmax cross-entropy of classes: arXiv:1512.00567, arXiv:2204.02311."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """Its numbers are train.label_smoothing and train.z_loss."""
  config = ml_collections.ConfigDict({"name": "cross_entropy"})
  # Of the logits and their gradient where they are written; sums are float32.
  config.logits_dtype = "float32"  # or bfloat16
  return config
