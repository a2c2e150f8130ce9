"""Dynamic tanh: Zhu, Chen, He, LeCun, Liu 2025, arXiv:2503.10622."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """alpha_init 0.5 is the paper's default; its wide LLaMAs need less."""
  return ml_collections.ConfigDict(
    {
      "name": "dyt",
      "alpha_init": 0.5,
      "use_bias": True,
      "use_scale": True,
      "function": "tanh",
      "shift_init": ml_collections.config_dict.placeholder(float),
    }
  )
