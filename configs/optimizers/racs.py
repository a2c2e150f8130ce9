"""RACS: Gong, Scetbon, Ma, Meeds 2025, arXiv:2502.07752.

State per matrix entry, in bytes: 0, and 4 for each input and output unit.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The paper's for LLaMA of 60M to 350M; for 1.3B its alpha is 0.02.

  AdamW takes the global rate, which is what None means.
  """
  return ml_collections.ConfigDict(
    {
      "name": "racs",
      "learning_rate": 0.02,
      "beta": 0.9,
      "matrix_scale": 0.05,
      "gamma": 1.01,
      "num_iters": 5,
      "weight_decay": 0.0,
      "fallback_learning_rate": ml_collections.config_dict.placeholder(float),
      "fallback_b1": 0.9,
      "fallback_b2": 0.999,
      "fallback_eps": 1e-8,
    }
  )
