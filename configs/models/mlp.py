"""Multilayer perceptron with a norm before each activation."""

import ml_collections
from ml_collections.config_dict import placeholder


def get_config() -> ml_collections.ConfigDict:
  """Classes, input shape and norm come from elsewhere."""
  return ml_collections.ConfigDict(
    {
      "name": "mlp",
      "num_layers": 3,
      "hidden_dim": 128,
      "activation": "relu",
      "init": "he_normal",
      "dropout": "standard",
      "dropout_rate": 0.0,
      # Of the hidden kernels; None: none.
      "weight_norm": placeholder(str),
      # The last layer: linear, normalized_softmax, equiangular, prototype.
      "head": "linear",
    }
  )
