"""Folders of weights: parts, damaged files, what is looked for."""

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors import numpy as safetensors

from normjax import convert, errors
from normjax.convert.weights import open_checkpoint
from tests.convert.weights import torch_pickles as made

A = {"a": np.arange(6, dtype=np.float32).reshape(2, 3)}
B = {"b": np.arange(4).astype(ml_dtypes.bfloat16), "c": np.float16([1, 2])}


def _parts(folder, **places):
  safetensors.save_file(A, folder / "1.safetensors")
  safetensors.save_file(B, folder / "2.safetensors")
  places = {
    "a": "1.safetensors",
    "b": "2.safetensors",
    "c": "2.safetensors",
    **places,
  }
  index = folder / "model.safetensors.index.json"
  index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
  return index


def test_parts_are_one_checkpoint_and_nothing_is_read(tmp_path):
  _parts(tmp_path)
  found = open_checkpoint(tmp_path)
  assert found.config == {}
  for name, want in {**A, **B}.items():
    tensor = found.tensors[name]
    assert (tensor.shape, tensor.dtype) == (want.shape, str(want.dtype))
    got = tensor.read()
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)


def test_parts_of_pytorch(tmp_path):
  content = made.state_dict(w=made.tensor())
  six = np.arange(6, dtype="<f4")
  made.write(tmp_path / "1.bin", content, {"0": six.tobytes()})
  index = tmp_path / "pytorch_model.bin.index.json"
  index.write_text(json.dumps({"weight_map": {"w": "1.bin"}}))
  found = open_checkpoint(tmp_path).tensors["w"].read()
  np.testing.assert_array_equal(found, six.reshape(2, 3))


@pytest.mark.parametrize(
  ("places", "message"),
  [
    ({"a": "../1.safetensors"}, r"'a' is in '\.\./1\.safetensors'; allowed"),
    ({"a": "/etc/passwd"}, "'a' is in '/etc/passwd'; allowed"),
    ({"a": ".."}, "no file of weights|which is not there"),
    ({"a": ""}, "which is not there"),
    ({"a": 3}, "'a' is in 3; allowed"),
    ({"a": "2.safetensors"}, "2.safetensors lacks 'a', which"),
    ({"a": "3.safetensors"}, "'3.safetensors', which is not there: a part"),
    ({"a": f"{'3' * 300}.safetensors"}, "File name too long"),
    ({"a": "config.json"}, "config.json is no file of weights"),
    ({"a": "model.safetensors.index.json"}, "json is no file of weights"),
  ],
)
def test_an_index_that_leads_elsewhere(tmp_path, places, message):
  (tmp_path / "config.json").write_text("{}")
  _parts(tmp_path, **places)
  with pytest.raises(errors.DataError, match=message):
    open_checkpoint(tmp_path)


@pytest.mark.parametrize(
  ("path", "message"),
  [
    ("", "folder=''; needed: the path"),
    (None, "folder=None; needed: the path"),
    ("a" * 5000, "File name too long"),
    ("~nobody.of.this.name/a", "Could not determine home"),
  ],
)
def test_a_path_that_is_none(path, message):
  for read in (open_checkpoint, convert.image_options):
    with pytest.raises(errors.DataError, match=message):
      read(path)


def test_files_that_are_damaged_or_none(tmp_path):
  def refused(message, path=tmp_path):
    with pytest.raises(errors.DataError, match=message):
      open_checkpoint(path)

  refused("no folder '.*nothing'", tmp_path / "nothing")
  refused(r"holds no weights; looked for: model\.safetensors")
  file = tmp_path / "model.safetensors"
  safetensors.save_file(A, file)
  whole = file.read_bytes()
  for kept in (len(whole) - 4, 60, 4, 0):
    file.write_bytes(whole[:kept])
    refused("no whole safetensors file")
  # A head that promises more than there is.
  file.write_bytes(whole.replace(b"[2,3]", b"[9,3]"))
  refused("no whole safetensors file")
  file.write_bytes(b"\xff" * 8 + whole[8:])
  refused("no whole safetensors file")
  file.write_bytes(whole)
  for text, message in {
    "{": "no JSON",
    "[]": "holds a list; needed: a block",
    "[" * 100_000: "no JSON",
    "\udcff": "no JSON",
  }.items():
    (tmp_path / "config.json").write_bytes(
      text.encode("utf-8", "surrogateescape")
    )
    refused(message)
  (tmp_path / "config.json").unlink()
  (tmp_path / "notes.txt").write_text("")
  refused("no file of weights; allowed: .safetensors", tmp_path / "notes.txt")
  index = tmp_path / "model.safetensors.index.json"
  file.unlink()
  index.write_text('{"weight_map": {}}')
  refused("lacks 'weight_map'")


def test_a_kind_that_is_not_read_is_named(tmp_path):
  kinds = {"a": np.zeros(4, ml_dtypes.float8_e4m3fn)}
  safetensors.save_file(kinds, tmp_path / "model.safetensors")
  with pytest.raises(errors.DataError, match="'a' is of kind F8_E4M3; read"):
    open_checkpoint(tmp_path)
