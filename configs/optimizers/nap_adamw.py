"""Normalize-and-Project: Lyle et al. 2024, arXiv:2407.01800, around AdamW.

State per matrix entry, in bytes: 8, and 4 for each matrix.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """Projection at every step, second-hand as in the paper; Adam's defaults.

  There is no official code, and the paper's text was read in part. It is meant
  for a model with a norm before every nonlinearity: model.placement="nap".
  """
  return ml_collections.ConfigDict(
    {
      "name": "nap_adamw",
      "learning_rate": 1e-3,
      "b1": 0.9,
      "b2": 0.999,
      "eps": 1e-8,
      "weight_decay": 0.0,
      "per": "matrix",
      "every": 1,
      "vectors": "none",
      "vector_decay": 0.0,
    }
  )
