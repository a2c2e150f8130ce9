"""SOAP: Vyas et al. 2024, arXiv:2409.11321.

State per matrix entry, in bytes: 8 + 8 k / l + 8 l / k.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults of nikhilvyas/SOAP."""
  return ml_collections.ConfigDict(
    {
      "name": "soap",
      "learning_rate": 3e-3,
      "b1": 0.95,
      "b2": 0.95,
      "eps": 1e-8,
      "precondition_frequency": 10,
      "max_precond_dim": 10000,
      "weight_decay": 0.01,
    }
  )
