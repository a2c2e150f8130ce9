"""GGUF by the package: kinds, names, what is refused."""

import struct

import numpy as np
import pytest

from normjax import errors
from normjax.convert.weights import gguf_file, open_checkpoint

gguf = pytest.importorskip("gguf", reason="the extra gguf is not installed")
Kind = gguf.GGMLQuantizationType
_RANDOM = np.random.default_rng(0)
HEADS, KV_HEADS, SIZE = 4, 2, 32


def _draw(*shape):
  return _RANDOM.normal(size=shape).astype(np.float32)


def _write(file, tensors, settings=None, name="llama"):
  """A file with tensors, each (numbers, kind), and settings of its model."""
  writer = gguf.GGUFWriter(file, name)
  said = {
    "block_count": 1,
    "embedding_length": SIZE,
    "feed_forward_length": 64,
    "attention.head_count": HEADS,
    "attention.head_count_kv": KV_HEADS,
    **(settings or {}),
  }
  for key, value in said.items():
    add = writer.add_string if isinstance(value, str) else writer.add_uint32
    if value is not None:
      add(f"{name}.{key}", value)
  writer.add_float32(f"{name}.attention.layer_norm_rms_epsilon", 1e-5)
  writer.add_array("tokenizer.ggml.tokens", ["a", "b"])
  for tensor, (numbers, kind) in tensors.items():
    held = gguf.quants.quantize(numbers, kind)
    writer.add_tensor(tensor, held, raw_dtype=kind)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return file


def _meant(numbers, kind):
  """What quantized numbers stand for, block by block, in float64.

  Of ggml's blocks of 32 (ggml-org/llama.cpp, MIT, ggml-quants.c).
  """
  packed = gguf.quants.quantize(numbers, kind)
  found = []
  for block in packed.reshape(-1, gguf.GGML_QUANT_SIZES[kind][1]):
    scale = np.float64(block[:2].view(np.float16)[0])
    if kind == Kind.Q8_0:
      found.append(scale * block[2:].view(np.int8))
      continue
    low, shift = (2, -8.0) if kind == Kind.Q4_0 else (4, 0.0)
    least = 0.0 if low == 2 else np.float64(block[2:4].view(np.float16)[0])
    codes = np.concatenate([block[low:] & 15, block[low:] >> 4])
    found.append(scale * (codes + shift) + least)
  return np.concatenate(found).reshape(numbers.shape)


def test_each_kind_is_what_it_stands_for(tmp_path):
  numbers = _draw(3, 64)
  kinds = (Kind.F32, Kind.F16, Kind.Q8_0, Kind.Q4_0, Kind.Q4_1)
  assert {kind.name for kind in kinds} == {*gguf_file.KINDS}
  tensors = {
    f"blk.{i}.ffn_up.weight": (numbers, k) for i, k in enumerate(kinds)
  }
  found, _ = gguf_file.read(_write(tmp_path / "a.gguf", tensors))
  for index, kind in enumerate(kinds):
    tensor = found[f"model.layers.{index}.mlp.up_proj.weight"]
    got = tensor.read()
    assert (tensor.shape, tensor.dtype) == (got.shape, str(got.dtype))
    if kind == Kind.F32:
      np.testing.assert_array_equal(got, numbers)
    elif kind == Kind.F16:
      np.testing.assert_array_equal(got, numbers.astype(np.float16))
    else:  # Two roundings of float32.
      np.testing.assert_allclose(
        got, _meant(numbers, kind), rtol=2**-22, atol=2**-22
      )


def test_heads_have_halves_where_the_file_has_neighbours(tmp_path):
  """Row j of a head is the file's row 2 j, or 2 (j - k / 2) + 1."""
  query, key = _draw(SIZE, SIZE), _draw(KV_HEADS * 8, SIZE)
  tensors = {
    "blk.0.attn_q.weight": (query, Kind.F32),
    "blk.0.attn_k.weight": (key, Kind.F32),
    "blk.0.attn_v.weight": (key, Kind.F32),
  }
  rows = np.array([0, 2, 4, 6, 1, 3, 5, 7])
  found, _ = gguf_file.read(_write(tmp_path / "a.gguf", tensors))
  prefix = "model.layers.0.self_attn"
  for name, theirs, heads in (("q", query, HEADS), ("k", key, KV_HEADS)):
    want = theirs.reshape(heads, 8, SIZE)[:, rows].reshape(theirs.shape)
    got = found[f"{prefix}.{name}_proj.weight"].read()
    np.testing.assert_array_equal(got, want)
  np.testing.assert_array_equal(found[f"{prefix}.v_proj.weight"].read(), key)
  # Only LLaMA's files are so.
  found, _ = gguf_file.read(_write(tmp_path / "b.gguf", tensors, name="qwen2"))
  np.testing.assert_array_equal(found[f"{prefix}.q_proj.weight"].read(), query)


def test_a_file_says_its_config(tmp_path):
  tensors = {
    "token_embd.weight": (_draw(7, SIZE), Kind.F32),
    "output_norm.weight": (_draw(SIZE), Kind.F32),
  }
  settings = {"rope.dimension_count": 8, "context_length": 99}
  _write(tmp_path / "a.gguf", tensors, settings)
  found = open_checkpoint(tmp_path)
  assert {*found.tensors} == {"model.embed_tokens.weight", "model.norm.weight"}
  assert found.config == {
    "model_type": "llama",
    "vocab_size": 7,
    "num_hidden_layers": 1,
    "hidden_size": SIZE,
    "intermediate_size": 64,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": 8,
    "max_position_embeddings": 99,
    "rms_norm_eps": float(np.float32(1e-5)),
    "tie_word_embeddings": True,
  }
  _write(tmp_path / "b.gguf", tensors, settings)
  with pytest.raises(errors.DataError, match=r"several models, a\.gguf, b"):
    open_checkpoint(tmp_path)


@pytest.mark.parametrize(
  ("settings", "name", "message"),
  [
    ({}, "bert", "general.architecture='bert'; read here: llama, qwen2"),
    ({"block_count": None}, "llama", r"lacks llama\.block_count"),
    ({"expert_count": 8}, "llama", r"llama\.expert_count=8; a setting that"),
    ({"rope.scaling.type": "yarn"}, "llama", "'yarn'; read here: 'none'"),
    ({"rope.dimension_count": 4}, "llama", "dimension_count=4; needed: 8"),
    ({"attention.value_length": 16}, "llama", "value_length=16; needed: 8"),
  ],
)
def test_settings_that_are_not_read_are_named(
  tmp_path, settings, name, message
):
  file = _write(tmp_path / "a.gguf", {}, settings, name)
  with pytest.raises(errors.DataError, match=message):
    open_checkpoint(file)


def test_another_kind_and_a_damaged_file(tmp_path):
  file = tmp_path / "a.gguf"
  tensors = {"blk.0.ffn_up.weight": (_draw(2, 64), Kind.Q5_1)}
  _write(file, tensors)
  with pytest.raises(errors.DataError, match="is of kind Q5_1; read here: F32"):
    open_checkpoint(file)
  tensors = {"blk.0.ffn_up.weight": (_draw(2, 64), Kind.Q8_0)}
  whole = _write(file, tensors).read_bytes()
  for kept in (len(whole) - 40, 100, 10, 0):  # 24 are padding.
    file.write_bytes(whole[:kept])
    with pytest.raises(errors.DataError, match="no whole GGUF file"):
      open_checkpoint(file)
  # A setting "a" that is a list: of 2^60 numbers, none of which is there.
  head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1)
  file.write_bytes(head + struct.pack("<QcIIQ", 1, b"a", 9, 0, 1 << 60))
  with pytest.raises(errors.DataError, match="it says more than it holds"):
    open_checkpoint(file)


def test_without_the_package_the_extra_is_said(tmp_path, monkeypatch):
  monkeypatch.setitem(__import__("sys").modules, "gguf", None)
  (tmp_path / "a.gguf").write_bytes(b"")
  with pytest.raises(errors.UserError, match=r"pip install 'normjax\[gguf\]'"):
    open_checkpoint(tmp_path)
