"""LLaMA-style decoder: Touvron et al. 2023, arXiv:2302.13971."""

from typing import Any

import ml_collections
from ml_collections.config_dict import placeholder


def transformer_options() -> dict[str, Any]:
  """What all transformers have: norms, inits, attention, how they run."""
  return {
    # Where norms sit, and what multiplies the branches.
    "placement": "pre",
    "residual": "none",
    # How kernels start, the same for every placement; "placement": each
    # placement's own.
    "init": "depth_scaled",
    # A norm other than the config's own in a slot, or one where the
    # placement has none: "rms_norm", "dyt(alpha_init=0.2)".
    "slot_norms": {
      "embedding": placeholder(str),
      "input": placeholder(str),
      "attention_input": placeholder(str),
      "feed_forward_input": placeholder(str),
      "output": placeholder(str),
      "inner": placeholder(str),
      "stream": placeholder(str),
      "query_key": placeholder(str),
      "value": placeholder(str),
      "final": placeholder(str),
    },
    # Gains around each matrix that reads an input norm, arXiv:2605.26895.
    "reader_scales": False,
    "reader_output_scales": placeholder(str),
    # Stochastic depth of the last block; linear in depth, timm's drop path.
    "drop_path_rate": 0.0,
    # How the matrices of blocks are held: "sltrain(rank=128, density=0.03,
    # alpha=32)", "low_rank(rank=128)", "lora(rank=128)", "relora(rank=128)".
    "linear": "dense",
    # Inside attention. None: d / num_heads; as use_bias says.
    "head_dim": placeholder(int),
    "attention_bias": placeholder(str),
    "mixing": "softmax",
    # None: as goes with the placement, "joint" for reordered, else "head".
    "query_key_norm_axes": placeholder(str),
    "query_key_norm_after_rotation": False,
    "learned_temperature": False,
    "logit_scale": placeholder(float),
    "logit_cap": placeholder(float),
    "output_gate": placeholder(str),
    # How it runs: one loop over like layers compiles faster; remat trades
    # time for memory.
    "scan_layers": False,
    "remat": False,
  }


def get_config() -> ml_collections.ConfigDict:
  """Sized for two cores; vocabulary and norm come from elsewhere."""
  return ml_collections.ConfigDict(
    {
      "name": "llama",
      # Named dimensions, each of which may be replaced.
      "size": "tiny",
      "num_layers": placeholder(int),
      "num_heads": placeholder(int),
      "model_dim": placeholder(int),
      "hidden_dim": placeholder(int),
      "num_kv_heads": placeholder(int),
      "activation": "swiglu",
      "rope_theta": 10_000.0,
      # How many features of a head rotate, None: all; and the frequencies of
      # longer sequences, "llama3(factor=32.0)".
      "rotary_dim": placeholder(int),
      "rope_scaling": "none",
      "use_bias": False,
      "dropout_rate": 0.0,
      "tied_embeddings": False,
      "scaled_embeddings": False,
      "embedding_std": 0.02,
      **transformer_options(),
    }
  )
