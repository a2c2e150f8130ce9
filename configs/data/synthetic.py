"""Labels from a linear softmax teacher: the best loss is known.

Drawn anew at every step; features of unequal scale, as the condition number
of their covariance says. 4,096 examples to evaluate on, drawn for each split.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults; `optimum_loss` in run.json is what the teacher gets."""
  return ml_collections.ConfigDict(
    {
      "name": "synthetic",
      "num_features": 32,
      "num_classes": 10,
      "condition_number": 100.0,
      "logit_scale": 3.0,
      "num_validation": 4096,
      "task_seed": 0,
    }
  )
