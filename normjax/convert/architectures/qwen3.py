"""Qwen3 in transformers' layout: arXiv:2505.09388.

LLaMA's, with a norm of each head's query and key and heads of a size of their
own. Read: huggingface/transformers (Apache-2.0), models/qwen3.
"""

from typing import Any

from flax import nnx

from normjax.convert.architecture import Architecture
from normjax.convert.architectures import llama_layout
from normjax.convert.entries import Declared
from normjax.convert.settings import Settings


def _options(settings: Settings) -> tuple[str, dict[str, Any]]:
  options = llama_layout.options(settings, head_dim=128)
  attention = "all" if settings.flag("attention_bias", False) else "none"
  eps = options["norm"]["eps"]
  return "llama", {
    **options,
    **llama_layout.biases(attention, feed_forward=False),
    "slot_norms": {"query_key": f"rms_norm(eps={eps!r})"},
  }


def _config(model: nnx.Module) -> dict[str, Any]:
  return llama_layout.config(
    model,
    architectures=["Qwen3ForCausalLM"],
    model_type="qwen3",
    attention_bias=model.layers[0].attention.out.bias is not None,
    use_sliding_window=False,
  )


def _entries(model: nnx.Module) -> Declared:
  inside = {"query_norm": "q_norm", "key_norm": "k_norm"}
  return llama_layout.entries(model, inside=inside)


ARCHITECTURE = Architecture(
  name="qwen3",
  answers_to=("qwen3", "Qwen3ForCausalLM"),
  options=_options,
  models=("llama",),
  config=_config,
  entries=_entries,
  prefix=llama_layout.PREFIX,
  ignored=llama_layout.IGNORED,
)
