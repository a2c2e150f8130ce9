"""LLaMA 1 to 3 and SmolLM2 in transformers' layout: arXiv:2302.13971.

Read: huggingface/transformers (Apache-2.0), models/llama.
"""

from typing import Any

from flax import nnx

from normjax.convert.architecture import Architecture
from normjax.convert.architectures import llama_layout
from normjax.convert.settings import Settings


def _options(settings: Settings) -> tuple[str, dict[str, Any]]:
  attention = "all" if settings.flag("attention_bias", False) else "none"
  biases = llama_layout.biases(attention, settings.flag("mlp_bias", False))
  return "llama", {**llama_layout.options(settings), **biases}


def _config(model: nnx.Module) -> dict[str, Any]:
  block = model.layers[0]
  return llama_layout.config(
    model,
    architectures=["LlamaForCausalLM"],
    model_type="llama",
    attention_bias=block.attention.out.bias is not None,
    mlp_bias=block.feed_forward.up.bias is not None,
  )


ARCHITECTURE = Architecture(
  name="llama",
  answers_to=("llama", "LlamaForCausalLM"),
  options=_options,
  models=("llama",),
  config=_config,
  entries=llama_layout.entries,
  prefix=llama_layout.PREFIX,
  ignored=llama_layout.IGNORED,
)
