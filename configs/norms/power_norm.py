"""PowerNorm: Shen, Yao, Gholami, Mahoney, Keutzer 2020, arXiv:2003.07845."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The official class's; in its recipes the warm-up is the schedule's."""
  return ml_collections.ConfigDict(
    {
      "name": "power_norm",
      "num_groups": 1,
      "warmup_steps": 10_000,
      "forward_momentum": 0.9,
      "backward_momentum": 0.9,
      "eps": 1e-5,
    }
  )
