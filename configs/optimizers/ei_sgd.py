"""SGD of networks of excitatory and inhibitory cells: vwOvOwv/DeepEISNN.

State per matrix entry, in bytes: 4.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The official code's values for its VGGs on CIFAR-10."""
  return ml_collections.ConfigDict(
    {
      "name": "ei_sgd",
      "learning_rate": 1e-3,
      "momentum": 0.9,
      "weight_decay": 5e-4,
    }
  )
