"""LISA: Pan et al. 2024, arXiv:2403.17919.

State per matrix entry, in bytes: 8; with reset_state 8 num_active / D in each
of D layers.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """Adam's defaults; layers and interval as in the official code."""
  return ml_collections.ConfigDict(
    {
      "name": "lisa",
      "learning_rate": 1e-3,
      "b1": 0.9,
      "b2": 0.999,
      "eps": 1e-8,
      "num_active": 2,
      "switch_every": 20,
      "reset_state": False,
      # A pattern of paths for each block, each leaf in one; (): the layers.
      "blocks": (),
      # A pattern for each stack of layers that lie along their first axis.
      "stacked": (),
      "weight_decay": 0.0,
    }
  )
