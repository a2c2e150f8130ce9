"""BAdam: Luo, Yu, Li 2024, arXiv:2404.02827.

State per matrix entry, in bytes: 8 / D with D layers.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """Adam's defaults; steps per block as on the page of the official code."""
  return ml_collections.ConfigDict(
    {
      "name": "badam",
      "learning_rate": 1e-3,
      "b1": 0.9,
      "b2": 0.999,
      "eps": 1e-8,
      "switch_every": 100,
      "order": "random",
      "others": "never",
      # A pattern of paths for each block, each leaf in one; (): the layers.
      "blocks": (),
      # A pattern for each stack of layers that lie along their first axis.
      "stacked": (),
      "weight_decay": 0.0,
    }
  )
