"""AdamP: Heo et al. 2021, arXiv:2006.08217.

State per matrix entry, in bytes: 8.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults of clovaai/AdamP; the decay is its README's example."""
  return ml_collections.ConfigDict(
    {
      "name": "adamp",
      "learning_rate": 1e-3,
      "b1": 0.9,
      "b2": 0.999,
      "eps": 1e-8,
      "weight_decay": 1e-2,
      "delta": 0.1,
      "wd_ratio": 0.1,
      "nesterov": False,
    }
  )
