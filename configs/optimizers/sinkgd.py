"""SinkGD: Scetbon, Ma, Gong, Meeds 2025, arXiv:2502.06742.

State per matrix entry, in bytes: 0.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """Five rounds and alpha 0.05 beside a global rate of 0.02.

  These are the paper's by what public re-implementations say, which agree;
  its text beyond the abstract was not available, nor is there official code.
  Its Adam takes the global rate, which is what None means here.
  """
  return ml_collections.ConfigDict(
    {
      "name": "sinkgd",
      "learning_rate": 0.02,
      "num_iters": 5,
      "matrix_scale": 0.05,
      "first": "output",
      "weight_decay": 0.0,
      "fallback_learning_rate": ml_collections.config_dict.placeholder(float),
      "fallback_b1": 0.9,
      "fallback_b2": 0.999,
      "fallback_eps": 1e-8,
    }
  )
