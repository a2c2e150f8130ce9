"""What LLaMA, Qwen2, Qwen3 and OLMo 2 share of transformers' layout.

Read: huggingface/transformers (Apache-2.0), models/{llama,qwen2,qwen3,olmo2}.
Matrices are PyTorch's, (outputs, inputs); those of heads have the features of
one head after those of another.
"""

from collections.abc import Mapping
from typing import Any

from flax import nnx

from normjax.convert import saying
from normjax.convert.architectures import rotary_settings
from normjax.convert.entries import Declared, Entry, Same
from normjax.convert.settings import Settings

PREFIX = "model."
# Of old releases, which hold the frequencies.
IGNORED = (r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq",)
# Of what goes through the gate; "silu" and "swish" are one function.
_GATES = {
  "silu": "swiglu",
  "swish": "swiglu",
  "gelu": "geglu_exact",
  "gelu_new": "geglu",
  "gelu_pytorch_tanh": "geglu",
}
_THEIR_GATES = {"swiglu": "silu", "geglu_exact": "gelu", "geglu": "gelu_new"}
_READERS = {"query": "q_proj", "key": "k_proj", "value": "v_proj"}
# Norms of a block that reads normalized streams.
PRE_NORMS = {
  "attention_input_norm": "input_layernorm",
  "feed_forward_input_norm": "post_attention_layernorm",
}


def options(
  settings: Settings,
  *,
  default_eps: float = 1e-6,
  head_dim: int | None = None,
) -> dict[str, Any]:
  """Options of `models.make("llama")`, but for biases and placements.

  Args:
    settings: of config.json.
    default_eps: of the norms, where config.json does not say it.
    head_dim: features of a head, likewise; None: d / heads.

  Raises:
    UserError: a setting that no model here has.
  """
  model_dim, num_heads, size = heads(settings, head_dim)
  num_kv_heads = settings.count("num_key_value_heads", num_heads)
  if num_heads % num_kv_heads:
    settings.refuse(
      "num_key_value_heads",
      f"allowed: a divisor of num_attention_heads={num_heads}",
    )
  eps = settings.number("rms_norm_eps", default_eps)
  check_full_attention(settings)
  return {
    "vocab_size": settings.count("vocab_size"),
    "num_layers": settings.count("num_hidden_layers"),
    "num_heads": num_heads,
    "num_kv_heads": num_kv_heads,
    "head_dim": None if size * num_heads == model_dim else size,
    "model_dim": model_dim,
    "hidden_dim": settings.count("intermediate_size"),
    "activation": settings.choice("hidden_act", _GATES, "silu"),
    "norm": {"name": "rms_norm", "eps": eps},
    "tied_embeddings": settings.flag("tie_word_embeddings", False),
    **rotary_settings.read(settings, size),
  }


def heads(
  settings: Settings, head_dim: int | None = None
) -> tuple[int, int, int]:
  """Features of the stream, heads, and features of a head.

  Args:
    settings: of config.json.
    head_dim: features of a head, where config.json does not say it; None: d /
      heads.

  Raises:
    UserError: sizes that do not divide.
  """
  model_dim = settings.count("hidden_size")
  num_heads = settings.count("num_attention_heads")
  size = settings.count("head_dim", head_dim)
  if size is None:
    if model_dim % num_heads:
      settings.refuse(
        "num_attention_heads", f"allowed: a divisor of hidden_size={model_dim}"
      )
    size = model_dim // num_heads
  return model_dim, num_heads, size


def biases(attention: str, feed_forward: bool) -> dict[str, Any]:
  """The options that say which layers have biases, in their shortest form."""
  same = attention == ("all" if feed_forward else "none")
  return {
    "use_bias": feed_forward,
    "attention_bias": None if same else attention,
  }


def check_full_attention(settings: Settings) -> None:
  """Raises UserError where some layers see a window of tokens only."""
  kinds = settings.get("layer_types", [])
  if not isinstance(kinds, list) or any(k != "full_attention" for k in kinds):
    settings.refuse("layer_types", "models here have only 'full_attention'")
  listed = "layer_types" in settings
  if listed or not settings.flag("use_sliding_window", False):
    return
  # Of this layer on; 0: of all.
  first = settings.count("max_window_layers", 28, least=0)
  if first < settings.count("num_hidden_layers"):
    settings.refuse(
      "use_sliding_window", "models here attend to all tokens before"
    )


def config(model: nnx.Module, **more: Any) -> dict[str, Any]:
  """The keys of config.json that the families share.

  Args:
    model: maybe of shapes alone.
    **more: the family's own; they come first.
  """
  attention = model.layers[0].attention
  feed_forward = model.layers[0].feed_forward
  num_heads, head_dim = attention.query.out_features
  return {
    **more,
    "vocab_size": model.embedding.num_embeddings,
    "hidden_size": model.embedding.features,
    "intermediate_size": feed_forward.up.out_features,
    "num_hidden_layers": len(model.layers),
    "num_attention_heads": num_heads,
    "num_key_value_heads": attention.key.out_features[0],
    "head_dim": head_dim,
    "hidden_act": saying.word(
      "activation", _THEIR_GATES, feed_forward.activation
    ),
    "rms_norm_eps": saying.norm_option(model.final_norm, "rms_norm", "eps"),
    "tie_word_embeddings": model.tied_embeddings,
    "attention_dropout": 0.0,
    **rotary_settings.written(attention.rope_theta, attention.rope_scaling),
    **NO_TOKENS,
  }


# A model knows no token by its meaning, and transformers' defaults are those of
# one release.
NO_TOKENS: Mapping[str, None] = {
  "bos_token_id": None,
  "eos_token_id": None,
  "pad_token_id": None,
}


def entries(
  model: nnx.Module,
  norms: Mapping[str, str] = PRE_NORMS,
  inside: Mapping[str, str] | None = None,
) -> Declared:
  """All tensors.

  Args:
    model: maybe of shapes alone.
    norms: our names of a block's norms to theirs.
    inside: the same for norms inside attention.
  """
  found: Declared = [
    Entry("embedding/embedding", "model.embed_tokens.weight"),
    Entry("final_norm/scale", "model.norm.weight"),
    head(model, "model.embed_tokens.weight", "lm_head.weight"),
  ]
  for index, block in enumerate(model.layers):
    ours, theirs = f"layers/{index}", f"model.layers.{index}"
    found += _attention(block, f"{ours}/attention", f"{theirs}.self_attn")
    found += _feed_forward(block, f"{ours}/feed_forward", f"{theirs}.mlp")
    places = norms | {
      f"attention/{own}": f"self_attn.{name}"
      for own, name in (inside or {}).items()
    }
    found += [
      Entry(f"{ours}/{own}/scale", f"{theirs}.{name}.weight")
      for own, name in places.items()
    ]
  return found


def head(model: nnx.Module, embedding: str, name: str) -> Entry | Same:
  """The head's tensor: its own, or the embedding's by another name."""
  if model.tied_embeddings:
    return Same(name, embedding)
  return Entry("head/kernel", name, "v d -> d v")


def _attention(block: nnx.Module, ours: str, theirs: str) -> Declared:
  found: Declared = []
  for reader, name in _READERS.items():
    layer = getattr(block.attention, reader)
    h, k = layer.out_features
    found.append(
      Entry(
        f"{ours}/{reader}/kernel",
        f"{theirs}.{name}.weight",
        "(h k) d -> d h k",
        h=h,
        k=k,
      )
    )
    if layer.bias is not None:
      found.append(
        Entry(
          f"{ours}/{reader}/bias",
          f"{theirs}.{name}.bias",
          "(h k) -> h k",
          h=h,
          k=k,
        )
      )
  h, k = block.attention.query.out_features
  found.append(
    Entry(
      f"{ours}/out/kernel",
      f"{theirs}.o_proj.weight",
      "d (h k) -> h k d",
      h=h,
      k=k,
    )
  )
  if block.attention.out.bias is not None:
    found.append(Entry(f"{ours}/out/bias", f"{theirs}.o_proj.bias"))
  return found


def _feed_forward(block: nnx.Module, ours: str, theirs: str) -> Declared:
  found: Declared = []
  for own in ("gate", "up", "down"):
    layer = getattr(block.feed_forward, own)
    name = f"{theirs}.{own}_proj"
    found.append(Entry(f"{ours}/{own}/kernel", f"{name}.weight", "o i -> i o"))
    if layer.bias is not None:
      found.append(Entry(f"{ours}/{own}/bias", f"{name}.bias"))
  return found
