"""SGDP: Heo et al. 2021, arXiv:2006.08217.

State per matrix entry, in bytes: 4.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults of clovaai/AdamP with the values of its README's example."""
  return ml_collections.ConfigDict(
    {
      "name": "sgdp",
      "learning_rate": 0.1,
      "momentum": 0.9,
      "dampening": 0.0,
      "weight_decay": 1e-5,
      "delta": 0.1,
      "wd_ratio": 0.1,
      "nesterov": True,
      "eps": 1e-8,
      "official_aliasing": False,
    }
  )
