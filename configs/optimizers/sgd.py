"""SGD with momentum, PyTorch's convention.

State per matrix entry, in bytes: 4.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """Rate and momentum of He et al. 2015, arXiv:1512.03385, section 4.2.

  Their weight decay is 1e-4, coupled; here it is for the config to say.
  """
  return ml_collections.ConfigDict(
    {
      "name": "sgd",
      "learning_rate": 0.1,
      "momentum": 0.9,
      "nesterov": False,
      "weight_decay": 0.0,
      "decoupled": False,
    }
  )
