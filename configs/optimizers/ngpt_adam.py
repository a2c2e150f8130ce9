"""nGPT's Adam, weights of unit vectors: Loshchilov et al., arXiv:2410.01131.

It goes with model.placement="normalized_stream". State per matrix entry, in
bytes: 8.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The numbers of the official code, whose launcher doubles the rate."""
  return ml_collections.ConfigDict(
    {
      "name": "ngpt_adam",
      "learning_rate": 1.5e-3,
      "b1": 0.9,
      "b2": 0.95,
      "eps": 1e-8,
      "weight_decay": 0.0,
    }
  )
