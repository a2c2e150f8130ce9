"""LLaMA-style decoder: Touvron et al. 2023, arXiv:2302.13971."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """Sized for two cores; vocabulary and norm come from elsewhere."""
  return ml_collections.ConfigDict(
    {
      "name": "llama",
      "num_layers": 2,
      "num_heads": 4,
      "num_kv_heads": ml_collections.config_dict.placeholder(int),
      "model_dim": 64,
      "hidden_dim": ml_collections.config_dict.placeholder(int),
      "rope_theta": 10_000.0,
      "dropout_rate": 0.0,
      "tied_embeddings": False,
      "scaled_embeddings": False,
      "placement": "pre",
    }
  )
