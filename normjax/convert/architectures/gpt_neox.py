"""GPT-NeoX and Pythia in transformers' layout: arXiv:2204.06745, 2304.01373.

Queries, keys and values are one matrix, by head: a head's query, key and value
follow one another. Read: huggingface/transformers (Apache-2.0),
models/gpt_neox.
"""

from typing import Any

from flax import nnx

from normjax.convert import saying
from normjax.convert.architecture import Architecture
from normjax.convert.architectures import llama_layout, rotary_settings
from normjax.convert.entries import Declared, Entry
from normjax.convert.settings import Settings

_ACTIVATIONS = {
  "gelu": "gelu_exact",
  "gelu_new": "gelu",
  "gelu_pytorch_tanh": "gelu",
  "relu": "relu",
}
_THEIRS = {"gelu_exact": "gelu", "gelu": "gelu_new", "relu": "relu"}
# Both branches read the stream, or one reads what the other wrote.
_PLACEMENTS = {True: "parallel_two_norms", False: "pre"}
_SHARE = "rotary_pct"
_BASE = "rotary_emb_base"


def _options(settings: Settings) -> tuple[str, dict[str, Any]]:
  model_dim, num_heads, size = llama_layout.heads(settings)
  attention = "all" if settings.flag("attention_bias", True) else "none"
  eps = settings.number("layer_norm_eps", 1e-5)
  return "llama", {
    "vocab_size": settings.count("vocab_size"),
    "num_layers": settings.count("num_hidden_layers"),
    "num_heads": num_heads,
    "model_dim": model_dim,
    "hidden_dim": settings.count("intermediate_size"),
    "activation": settings.choice("hidden_act", _ACTIVATIONS, "gelu"),
    "norm": {"name": "layer_norm", "eps": eps},
    "placement": _PLACEMENTS[settings.flag("use_parallel_residual", True)],
    "tied_embeddings": settings.flag("tie_word_embeddings", False),
    **llama_layout.biases(attention, feed_forward=True),
    **rotary_settings.read(
      settings,
      size,
      base=_BASE if _BASE in settings else "rope_theta",
      share=_SHARE if _SHARE in settings else "partial_rotary_factor",
      default_share=0.25,
    ),
  }


def _config(model: nnx.Module) -> dict[str, Any]:
  block = model.layers[0]
  attention = block.attention
  num_heads, head_dim = attention.query.out_features
  return {
    "architectures": ["GPTNeoXForCausalLM"],
    "model_type": "gpt_neox",
    "vocab_size": model.embedding.num_embeddings,
    "hidden_size": model.embedding.features,
    "intermediate_size": block.feed_forward.up.out_features,
    "num_hidden_layers": len(model.layers),
    "num_attention_heads": num_heads,
    "hidden_act": saying.word(
      "activation", _THEIRS, block.feed_forward.activation
    ),
    "layer_norm_eps": saying.norm_option(model.final_norm, "layer_norm", "eps"),
    "use_parallel_residual": block.parallel,
    "attention_bias": attention.out.bias is not None,
    "tie_word_embeddings": model.tied_embeddings,
    "hidden_dropout": attention.dropout_rate,
    "attention_dropout": 0.0,
    _SHARE: rotary_settings.share_of(attention.rotary_dim, head_dim),
    **rotary_settings.written(
      attention.rope_theta, attention.rope_scaling, base=_BASE
    ),
    **llama_layout.NO_TOKENS,
  }


def _entries(model: nnx.Module) -> Declared:
  found: Declared = [
    Entry("embedding/embedding", "gpt_neox.embed_in.weight"),
    Entry("final_norm/scale", "gpt_neox.final_layer_norm.weight"),
    Entry("final_norm/bias", "gpt_neox.final_layer_norm.bias"),
    llama_layout.head(model, "gpt_neox.embed_in.weight", "embed_out.weight"),
  ]
  for index, block in enumerate(model.layers):
    found += _block(block, f"layers/{index}", f"gpt_neox.layers.{index}")
  return found


def _block(block: nnx.Module, ours: str, theirs: str) -> Declared:
  h, k = block.attention.query.out_features
  layouts = {
    "weight": ("kernel", "(h n k) d -> n d h k"),
    "bias": ("bias", "(h n k) -> n h k"),
  }
  if block.attention.out.bias is None:
    del layouts["bias"]
  found: Declared = [
    Entry(
      tuple(f"{ours}/attention/{n}/{leaf}" for n in ("query", "key", "value")),
      f"{theirs}.attention.query_key_value.{name}",
      layout,
      h=h,
      k=k,
    )
    for name, (leaf, layout) in layouts.items()
  ]
  dense = f"{theirs}.attention.dense"
  found.append(
    Entry(
      f"{ours}/attention/out/kernel",
      f"{dense}.weight",
      "d (h k) -> h k d",
      h=h,
      k=k,
    )
  )
  if "bias" in layouts:
    found.append(Entry(f"{ours}/attention/out/bias", f"{dense}.bias"))
  for own, name in {"up": "dense_h_to_4h", "down": "dense_4h_to_h"}.items():
    place = f"{ours}/feed_forward/{own}"
    found += [
      Entry(f"{place}/kernel", f"{theirs}.mlp.{name}.weight", "o i -> i o"),
      Entry(f"{place}/bias", f"{theirs}.mlp.{name}.bias"),
    ]
  for own, name in llama_layout.PRE_NORMS.items():
    found += [
      Entry(f"{ours}/{own}/scale", f"{theirs}.{name}.weight"),
      Entry(f"{ours}/{own}/bias", f"{theirs}.{name}.bias"),
    ]
  return found


ARCHITECTURE = Architecture(
  name="gpt_neox",
  answers_to=("gpt_neox", "GPTNeoXForCausalLM"),
  options=_options,
  models=("llama",),
  config=_config,
  entries=_entries,
  prefix="gpt_neox.",
  # The causal mask and the frequencies, in files of old releases.
  ignored=(r"layers\.\d+\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)",),
)
