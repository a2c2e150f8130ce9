"""Muon: Keller Jordan 2024; Liu et al. 2025, arXiv:2502.16982 (Moonlight).

State per matrix entry, in bytes: 4.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults of KellerJordan/Muon, its AdamW's too.

  For Moonlight: scaling="moonlight", weight_decay=0.1, and one learning rate
  for both.
  """
  return ml_collections.ConfigDict(
    {
      "name": "muon",
      "learning_rate": 0.02,
      "beta": 0.95,
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
