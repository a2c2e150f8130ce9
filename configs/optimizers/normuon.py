"""NorMuon: Li et al. 2025, arXiv:2510.05491.

State per matrix entry, in bytes: 4, and 4 for each output unit.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults of zichongli5/NorMuon, its AdamW's too.

  For the paper's algorithm: scaling="rms" and nesterov=False.
  """
  return ml_collections.ConfigDict(
    {
      "name": "normuon",
      "learning_rate": 0.02,
      "beta": 0.95,
      "b2": 0.95,
      "nesterov": True,
      "ns_steps": 5,
      "eps": 1e-7,
      "scaling": "spectral",
      "weight_decay": 0.0,
      "fallback_learning_rate": 3e-4,
      "fallback_b1": 0.9,
      "fallback_b2": 0.95,
      "fallback_eps": 1e-10,
      "fallback_weight_decay": 0.0,
    }
  )
