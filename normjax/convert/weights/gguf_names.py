"""What GGUF calls things, in the words of transformers.

Read: ggml-org/llama.cpp (MIT), convert_hf_to_gguf.py and gguf-py, and
huggingface/transformers (Apache-2.0), integrations/ggml.py.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from normjax import errors
from normjax.convert.weights.base import Tensor

_ENDS = {
  "token_embd": "model.embed_tokens",
  "output_norm": "model.norm",
  "output": "lm_head",
}
_IN_BLOCKS = {
  "attn_norm": "input_layernorm",
  "attn_q": "self_attn.q_proj",
  "attn_k": "self_attn.k_proj",
  "attn_v": "self_attn.v_proj",
  "attn_q_norm": "self_attn.q_norm",
  "attn_k_norm": "self_attn.k_norm",
  "attn_output": "self_attn.o_proj",
  "ffn_norm": "post_attention_layernorm",
  "ffn_gate": "mlp.gate_proj",
  "ffn_up": "mlp.up_proj",
  "ffn_down": "mlp.down_proj",
}
# Architecture -> whether rotary pairs are neighbours, as in Meta's own files.
_ARCHITECTURES = {"llama": True, "qwen2": False, "qwen3": False}
_KEYS = {
  "block_count": "num_hidden_layers",
  "embedding_length": "hidden_size",
  "feed_forward_length": "intermediate_size",
  "attention.head_count": "num_attention_heads",
  "attention.head_count_kv": "num_key_value_heads",
  "attention.layer_norm_rms_epsilon": "rms_norm_eps",
  "attention.key_length": "head_dim",
  "rope.freq_base": "rope_theta",
  "context_length": "max_position_embeddings",
  "vocab_size": "vocab_size",
}
# Looked at below; any other setting may change what the model computes.
_CHECKED = {
  "attention.value_length",
  "rope.dimension_count",
  "rope.scaling.type",
}
_NEEDED = tuple(_KEYS)[:4]


class Names:
  """The names of one file."""

  def __init__(self, file: Path, settings: Mapping[str, Any]):
    """Reads the settings.

    Args:
      file: for messages.
      settings: what the file says of itself, by its own keys.

    Raises:
      DataError: an architecture or a setting that is not known here.
    """
    self._file = file
    self._name = settings.get("general.architecture")
    if self._name not in _ARCHITECTURES:
      raise errors.DataError(
        f"{file}: general.architecture={self._name!r}; read here:"
        f" {', '.join(_ARCHITECTURES)}."
      )
    self._settings = {
      key.removeprefix(f"{self._name}."): value
      for key, value in settings.items()
      if key.startswith(f"{self._name}.")
    }
    for key in _NEEDED:
      if key not in self._settings:
        raise errors.DataError(f"{file} lacks {self._name}.{key}.")
    for key in self._settings:
      if key not in {*_KEYS, *_CHECKED}:
        self._refuse(key, "a setting that is not read here")
    if self._settings.get("rope.scaling.type", "none") != "none":
      self._refuse("rope.scaling.type", "read here: 'none'")
    size = self._head_dim()
    for key in ("attention.value_length", "rope.dimension_count"):
      if self._settings.get(key, size) != size:
        self._refuse(key, f"needed: {size}, the features of a head")

  def _refuse(self, key: str, why: str) -> None:
    value = self._settings[key]
    raise errors.DataError(
      f"{self._file}: {self._name}.{key}={value!r}; {why}."
    )

  def _head_dim(self) -> int:
    own = self._settings
    return own.get(
      "attention.key_length",
      own["embedding_length"] // max(own["attention.head_count"], 1),
    )

  def of(self, name: str) -> str:
    """Transformers' name of a tensor; an unknown one stays as it is."""
    stem, _, leaf = name.rpartition(".")
    if stem in _ENDS:
      return f"{_ENDS[stem]}.{leaf}"
    block = re.fullmatch(r"blk\.(\d+)\.(\w+)", stem)
    if block and block[2] in _IN_BLOCKS:
      return f"model.layers.{block[1]}.{_IN_BLOCKS[block[2]]}.{leaf}"
    return name

  def interleaved_heads(self, name: str) -> int:
    """Of a tensor of queries or keys with neighbouring pairs; else 0."""
    own = self._settings
    if not _ARCHITECTURES[self._name]:
      return 0
    queries = own["attention.head_count"]
    if re.fullmatch(r"blk\.\d+\.attn_q\.(weight|bias)", name):
      return queries
    if re.fullmatch(r"blk\.\d+\.attn_k\.(weight|bias)", name):
      return own.get("attention.head_count_kv", queries)
    return 0

  def config(self, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The config.json that the file's settings are."""
    embedding = tensors.get("model.embed_tokens.weight")
    said = {
      theirs: self._settings[key]
      for key, theirs in _KEYS.items()
      if key in self._settings
    }
    if embedding is not None:
      said = {"vocab_size": embedding.shape[0], **said}
    return {
      "model_type": self._name,
      **said,
      "head_dim": self._head_dim(),
      "tie_word_embeddings": "lm_head.weight" not in tensors,
    }


def halves(value: np.ndarray, heads: int) -> np.ndarray:
  """Rows of each head from pairs that are neighbours to first and last half.

  Args:
    value: (heads k, …), k even.
    heads: how many.
  """
  pairs = value.reshape(heads, -1, 2, *value.shape[1:])
  return pairs.swapaxes(1, 2).reshape(value.shape)
