"""Vision transformer: Dosovitskiy et al. 2020, arXiv:2010.11929."""

import ml_collections
from ml_collections.config_dict import placeholder

from normjax import configure


def get_config() -> ml_collections.ConfigDict:
  """Sized for two cores; images, classes and norm come from elsewhere."""
  llama = configure.load_module("configs/models/llama.py")
  return ml_collections.ConfigDict(
    {
      "name": "vit",
      # Named dimensions, each of which may be replaced.
      "size": "mini",
      "num_layers": placeholder(int),
      "num_heads": placeholder(int),
      "model_dim": placeholder(int),
      "hidden_dim": placeholder(int),
      "patch_size": 4,
      "pooling": "class_token",
      # Where the pooling reads it.
      "has_class_token": placeholder(bool),
      # Whether the final norm is of what the pooling gives.
      "norm_after_pooling": False,
      # The last layer: linear, normalized_softmax, equiangular, prototype.
      "head": "linear",
      "activation": "gelu",
      "use_bias": True,
      "dropout_rate": 0.0,
      **llama.transformer_options(),
    }
  )
