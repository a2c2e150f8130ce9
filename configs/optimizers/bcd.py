"""Block coordinate descent: Nesterov 2012, doi:10.1137/100802001.

State per matrix entry, in bytes: 0.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """Random blocks, the largest gradients with order "greedy"."""
  return ml_collections.ConfigDict(
    {
      "name": "bcd",
      "learning_rate": 0.1,
      "order": "independent",
      "switch_every": 1,
      "num_active": 1,
      "others": "block",
      # A pattern of paths for each block, each leaf in one; (): the layers.
      "blocks": (),
      # A pattern for each stack of layers that lie along their first axis.
      "stacked": (),
      "weight_decay": 0.0,
    }
  )
