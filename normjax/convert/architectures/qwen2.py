"""Qwen2 and Qwen2.5 in transformers' layout: arXiv:2407.10671.

LLaMA's, with biases of queries, keys and values. Read: huggingface/transformers
(Apache-2.0), models/qwen2.
"""

from typing import Any

from flax import nnx

from normjax.convert.architecture import Architecture
from normjax.convert.architectures import llama_layout
from normjax.convert.settings import Settings


def _options(settings: Settings) -> tuple[str, dict[str, Any]]:
  biases = llama_layout.biases("query_key_value", feed_forward=False)
  return "llama", {**llama_layout.options(settings), **biases}


def _config(model: nnx.Module) -> dict[str, Any]:
  config = llama_layout.config(
    model,
    architectures=["Qwen2ForCausalLM"],
    model_type="qwen2",
    use_sliding_window=False,
  )
  return config


ARCHITECTURE = Architecture(
  name="qwen2",
  answers_to=("qwen2", "Qwen2ForCausalLM"),
  options=_options,
  models=("llama",),
  config=_config,
  entries=llama_layout.entries,
  prefix=llama_layout.PREFIX,
  ignored=llama_layout.IGNORED,
)
