"""Momentum with adaptive gradient clipping: Brock et al. 2021, 2102.06171.

State per matrix entry, in bytes: 4.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The official NFNet-F0 experiment's, at a batch of 256.

  The rate there is 0.1 times the batch over 256. `train.gradient_clip` clips
  by the norm of all gradients before; 0 turns it off.
  """
  return ml_collections.ConfigDict(
    {
      "name": "nfnet_sgd",
      "learning_rate": 0.1,
      "momentum": 0.9,
      "nesterov": True,
      "clipping": 0.01,
      "eps": 1e-3,
      "weight_decay": 2e-5,
    }
  )
