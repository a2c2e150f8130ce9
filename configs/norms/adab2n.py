"""AdaB2N: Lyu and others 2023, arXiv:2310.08855."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The official class's options; tasks as in split CIFAR-10.

  The official search of kappa is over 0.1, 0.4, 0.7 and 1. Momentum weighs the
  old value (PyTorch's is 0.1).
  """
  return ml_collections.ConfigDict(
    {
      "name": "adab2n",
      "num_tasks": 5,
      "kappa": 1.0,
      "momentum": 0.9,
      "eps": 1e-5,
      "renormalize": False,
    }
  )
