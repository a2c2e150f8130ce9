"""OLMo 2 in transformers' layout: arXiv:2501.00656.

LLaMA's, with norms of what branches give and of queries and keys over all
heads. Read: huggingface/transformers (Apache-2.0), models/olmo2.
"""

from typing import Any

from flax import nnx

from normjax.convert.architecture import Architecture
from normjax.convert.architectures import llama_layout
from normjax.convert.entries import Declared
from normjax.convert.settings import Settings


def _options(settings: Settings) -> tuple[str, dict[str, Any]]:
  options = llama_layout.options(settings, default_eps=1e-5)
  attention = "all" if settings.flag("attention_bias", False) else "none"
  return "llama", {
    **options,
    **llama_layout.biases(attention, feed_forward=False),
    "placement": "reordered",
  }


def _config(model: nnx.Module) -> dict[str, Any]:
  return llama_layout.config(
    model,
    architectures=["Olmo2ForCausalLM"],
    model_type="olmo2",
    attention_bias=model.layers[0].attention.out.bias is not None,
  )


def _entries(model: nnx.Module) -> Declared:
  return llama_layout.entries(
    model,
    norms={
      "attention_output_norm": "post_attention_layernorm",
      "feed_forward_output_norm": "post_feedforward_layernorm",
    },
    inside={"query_norm": "q_norm", "key_norm": "k_norm"},
  )


ARCHITECTURE = Architecture(
  name="olmo2",
  answers_to=("olmo2", "Olmo2ForCausalLM"),
  options=_options,
  models=("llama",),
  config=_config,
  entries=_entries,
  prefix=llama_layout.PREFIX,
  ignored=llama_layout.IGNORED,
)
