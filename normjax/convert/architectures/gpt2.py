"""GPT-2 in transformers' layout: Radford et al. 2019.

Read: huggingface/transformers (Apache-2.0), models/gpt2. Its matrices are
Conv1D's, (inputs, outputs) as here; queries, keys and values are one.
"""

from typing import Any

from flax import nnx

from normjax.convert import saying
from normjax.convert.architecture import Architecture
from normjax.convert.entries import Declared, Entry, Same
from normjax.convert.settings import Settings

# transformers' names: "gelu_new" is the tanh form.
_ACTIVATIONS = {
  "gelu_new": "gelu",
  "gelu_pytorch_tanh": "gelu",
  "gelu": "gelu_exact",
  "relu": "relu",
}
_THEIRS = {"gelu": "gelu_new", "gelu_exact": "gelu", "relu": "relu"}


def _options(settings: Settings) -> tuple[str, dict[str, Any]]:
  settings.only("scale_attn_weights", True)
  settings.only("scale_attn_by_inverse_layer_idx", False)
  settings.only("add_cross_attention", False)
  eps = settings.number("layer_norm_epsilon", 1e-5)
  return "gpt2", {
    "vocab_size": settings.count("vocab_size", 50257),
    "num_layers": settings.count("n_layer", 12),
    "num_heads": settings.count("n_head", 12),
    "model_dim": settings.count("n_embd", 768),
    "hidden_dim": settings.count("n_inner", None),
    "max_length": settings.count("n_positions", 1024),
    "activation": settings.choice(
      "activation_function", _ACTIVATIONS, "gelu_new"
    ),
    "norm": {"name": "layer_norm", "eps": eps},
    "tied_embeddings": settings.flag("tie_word_embeddings", True),
  }


def _config(model: nnx.Module) -> dict[str, Any]:
  block = model.layers[0]
  return {
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "vocab_size": model.embedding.num_embeddings,
    "n_layer": len(model.layers),
    "n_head": block.attention.query.out_features[0],
    "n_embd": model.embedding.features,
    "n_inner": block.feed_forward.up.out_features,
    "n_positions": model.max_length,
    "activation_function": saying.word(
      "activation", _THEIRS, block.feed_forward.activation
    ),
    "layer_norm_epsilon": saying.norm_option(
      model.final_norm, "layer_norm", "eps"
    ),
    "tie_word_embeddings": model.tied_embeddings,
    "embd_pdrop": model.dropout_rate,
    "resid_pdrop": block.attention.dropout_rate,
    "attn_pdrop": 0.0,
    # The released tokenizer's, where they are tokens of this vocabulary at all.
    **_ends(model.embedding.num_embeddings),
  }


def _ends(vocab_size: int) -> dict[str, int | None]:
  last = vocab_size - 1 if vocab_size == 50257 else None
  return {"bos_token_id": last, "eos_token_id": last}


def _entries(model: nnx.Module) -> Declared:
  found: Declared = [
    Entry("embedding/embedding", "transformer.wte.weight"),
    Entry("position_embedding", "transformer.wpe.weight"),
    Entry("final_norm/scale", "transformer.ln_f.weight"),
    Entry("final_norm/bias", "transformer.ln_f.bias"),
  ]
  if model.tied_embeddings:
    found.append(Same("lm_head.weight", "transformer.wte.weight"))
  else:
    found.append(Entry("head/kernel", "lm_head.weight", "v d -> d v"))
  for index, block in enumerate(model.layers):
    found += _block(
      f"layers/{index}",
      f"transformer.h.{index}",
      *block.attention.query.out_features,
    )
  return found


def _block(ours: str, theirs: str, h: int, k: int) -> Declared:
  def readers(leaf: str) -> tuple[str, ...]:
    names = ("query", "key", "value")
    return tuple(f"{ours}/attention/{name}/{leaf}" for name in names)

  found: Declared = [
    Entry(
      readers("kernel"),
      f"{theirs}.attn.c_attn.weight",
      "d (n h k) -> n d h k",
      h=h,
      k=k,
    ),
    Entry(
      readers("bias"),
      f"{theirs}.attn.c_attn.bias",
      "(n h k) -> n h k",
      h=h,
      k=k,
    ),
    Entry(
      f"{ours}/attention/out/kernel",
      f"{theirs}.attn.c_proj.weight",
      "(h k) d -> h k d",
      h=h,
      k=k,
    ),
    Entry(f"{ours}/attention/out/bias", f"{theirs}.attn.c_proj.bias"),
  ]
  norms = {"attention": "ln_1", "feed_forward": "ln_2"}
  for branch, name in norms.items():
    found += [
      Entry(f"{ours}/{branch}_input_norm/scale", f"{theirs}.{name}.weight"),
      Entry(f"{ours}/{branch}_input_norm/bias", f"{theirs}.{name}.bias"),
    ]
  for name, matrix in {"up": "c_fc", "down": "c_proj"}.items():
    found += [
      Entry(
        f"{ours}/feed_forward/{name}/kernel", f"{theirs}.mlp.{matrix}.weight"
      ),
      Entry(f"{ours}/feed_forward/{name}/bias", f"{theirs}.mlp.{matrix}.bias"),
    ]
  return found


ARCHITECTURE = Architecture(
  name="gpt2",
  answers_to=("gpt2", "GPT2LMHeadModel"),
  options=_options,
  models=("gpt2",),
  config=_config,
  entries=_entries,
  prefix="transformer.",
  # The causal mask, in files of old releases.
  ignored=(r"h\.\d+\.attn\.(bias|masked_bias)",),
)
