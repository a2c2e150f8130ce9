"""A norm with a low-rank gate on its output: arXiv:2601.22966."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The paper's rank; how its gate starts is not stated."""
  return ml_collections.ConfigDict(
    {
      "name": "gated_norm",
      "rank": 16,
      "gate_init": "half",
      "init_std": 0.02,
      "inner": "rms_norm",
    }
  )
