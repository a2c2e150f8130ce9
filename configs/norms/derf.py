"""Dynamic erf: arXiv:2512.10938."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The authors' defaults; their GPT-2 starts alpha at 1."""
  return ml_collections.ConfigDict(
    {
      "name": "derf",
      "alpha_init": 0.5,
      "use_bias": True,
      "use_scale": True,
      "shift_init": 0.0,
    }
  )
