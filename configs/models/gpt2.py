"""GPT-2: Radford et al. 2019."""

import ml_collections
from ml_collections.config_dict import placeholder

from normjax import configure


def get_config() -> ml_collections.ConfigDict:
  """Sized for two cores; vocabulary and norm come from elsewhere.

  The released weights go with norm.name=layer_norm and norm.eps=1e-5.
  """
  llama = configure.load_module("configs/models/llama.py")
  return ml_collections.ConfigDict(
    {
      "name": "gpt2",
      # Named dimensions, each of which may be replaced.
      "size": "tiny",
      "num_layers": placeholder(int),
      "num_heads": placeholder(int),
      "model_dim": placeholder(int),
      "hidden_dim": placeholder(int),
      "num_kv_heads": placeholder(int),
      "max_length": 1024,
      "activation": "gelu",
      "use_bias": True,
      "dropout_rate": 0.0,
      "tied_embeddings": True,
      "scaled_embeddings": False,
      "embedding_std": 0.02,
      **llama.transformer_options(),
    }
  )
