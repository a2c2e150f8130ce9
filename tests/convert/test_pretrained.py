"""Released weights in and out: what transformers computes, and bad folders."""

import json
import math
import os
import shutil
import subprocess

import jax
import numpy as np
import pytest
import tokenizers
from flax import nnx
from safetensors import numpy as safetensors

from normjax import build, configure, convert, errors, models
from normjax.nn import start
from normjax.nn import variables as nn_variables
from normjax.train import drawing, program
from tests import support

GPT2 = support.ROOT / "tests/convert/recorded/gpt2"


@pytest.fixture
def folder(tmp_path):
  """A copy to be changed, in float32."""
  copied = tmp_path / "gpt2"
  shutil.copytree(GPT2, copied)
  return copied


def _change(folder, **values):
  file = folder / "config.json"
  config = json.loads(file.read_text())
  file.write_text(json.dumps(config | values))


def _tensors(folder):
  return safetensors.load_file(folder / "model.safetensors")


def _rewrite(folder, tensors):
  safetensors.save_file(tensors, folder / "model.safetensors")


def test_logits_are_those_of_transformers():
  recorded = np.load(GPT2 / "logits.npz")
  logits = convert.from_pretrained(GPT2)(recorded["inputs"], train=False)
  # float32: two blocks, and sums over at most 50 terms.
  np.testing.assert_allclose(logits, recorded["logits"], rtol=0, atol=5e-6)
  with jax.enable_x64(True):
    exact = convert.from_pretrained(GPT2, dtype="float64")
    logits = exact(recorded["inputs"], train=False)
    np.testing.assert_allclose(logits, recorded["logits"], rtol=0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.skipif(
  "NORMJAX_PEERS_PYTHON" not in os.environ,
  reason="NORMJAX_PEERS_PYTHON names no Python with torch and transformers",
)
def test_transformers_loads_what_is_written(tmp_path):
  with jax.enable_x64(True):
    model = convert.from_pretrained(GPT2, dtype="float64")
    convert.save_pretrained(model, tmp_path)
  shutil.copy(GPT2 / "logits.npz", tmp_path)
  check = GPT2.parent / "record.py"
  subprocess.run(
    [os.environ["NORMJAX_PEERS_PYTHON"], check, "--check", tmp_path],
    env={},
    check=True,
  )


def test_what_is_written_holds_the_same_tensors(tmp_path):
  model = convert.from_pretrained(GPT2)
  convert.save_pretrained(model, tmp_path / "out")
  theirs, ours = _tensors(GPT2), _tensors(tmp_path / "out")
  assert theirs.keys() == ours.keys()
  for name, tensor in theirs.items():
    np.testing.assert_array_equal(ours[name], tensor.astype(np.float32), name)
  said = json.loads((GPT2 / "config.json").read_text())
  written = json.loads((tmp_path / "out/config.json").read_text())
  sizes = {k for k in written if k.startswith("n_")} | {"vocab_size"}
  same = {*sizes, "layer_norm_epsilon", "activation_function", "model_type"}
  assert {k: written[k] for k in same} == {k: said[k] for k in same}


def test_a_round_trip_is_exact_however_layers_are_looped_over(tmp_path):
  options = {"num_layers": 2, "num_heads": 2, "model_dim": 8, "max_length": 5}
  model = models.make("gpt2", **options, scan_layers=True, dropout_rate=0.1)
  model.eval()
  convert.save_pretrained(model, tmp_path)
  found = convert.from_pretrained(tmp_path, scan_layers=True)
  for a, b in zip(
    *(nnx.to_flat_state(nnx.state(m, nnx.Param)) for m in (model, found)),
    strict=True,
  ):
    assert a[0] == b[0]
    np.testing.assert_array_equal(a[1][...], b[1][...])


def test_the_dtype_of_what_is_read_and_written(folder, tmp_path):
  model = convert.from_pretrained(folder, dtype="bfloat16")
  assert model.embedding.embedding.dtype == "bfloat16"
  convert.save_pretrained(model, tmp_path / "out")
  written = _tensors(tmp_path / "out")["transformer.wte.weight"]
  assert written.dtype == "bfloat16"
  said = json.loads((tmp_path / "out/config.json").read_text())
  assert said["torch_dtype"] == "bfloat16"
  with pytest.raises(errors.UserError, match="dtype='int8'; allowed"):
    convert.from_pretrained(folder, dtype="int8")


def test_numbers_beyond_a_dtype_are_named(folder, tmp_path):
  tensors = _tensors(folder)
  tensors["transformer.ln_f.bias"][3] = -7e4
  _rewrite(folder, tensors)
  said = r"ln_f\.bias' holds 7\S+, beyond the range of float16"
  with pytest.raises(errors.UserError, match=said):
    convert.from_pretrained(folder, dtype="float16")
  model = convert.from_pretrained(folder, dtype="bfloat16")
  with pytest.raises(errors.UserError, match=said):
    convert.save_pretrained(model, tmp_path / "out", dtype="float16")
  assert not (tmp_path / "out").exists()


def test_names_without_the_head_and_old_buffers(folder):
  tensors = {
    name.removeprefix("transformer."): tensor
    for name, tensor in _tensors(folder).items()
  }
  tensors["h.0.attn.bias"] = np.ones((1, 1, 12, 12), bool)
  tensors["lm_head.weight"] = tensors["wte.weight"].copy()
  _rewrite(folder, tensors)
  convert.from_pretrained(folder)
  tensors["lm_head.weight"][3, 5] += 1e-3
  _rewrite(folder, tensors)
  with pytest.raises(errors.DataError, match=r"'lm_head\.weight' is not"):
    convert.from_pretrained(folder)


def _missing(tensors):
  del tensors["transformer.h.1.ln_2.bias"]


def _surplus(tensors):
  tensors["score.weight"] = np.zeros((2, 16))


def _reshaped(tensors):
  tensors["transformer.h.0.mlp.c_fc.weight"] = np.zeros((40, 16))


def _quantized(tensors):
  name = "transformer.h.0.mlp.c_fc.weight"
  tensors[name] = tensors[name].astype(np.int8)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (_missing, r"read as 'gpt2', lacks transformer\.h\.1\.ln_2\.bias"),
    (_surplus, r"no place for: score\.weight"),
    (_reshaped, r"c_fc\.weight' is \(40, 16\); by .*json it is \(16, 40\)"),
    (_quantized, r"c_fc\.weight' is of int8; needed: floats"),
  ],
)
def test_tensors_that_do_not_fit_are_named(folder, change, message):
  tensors = _tensors(folder)
  change(tensors)
  _rewrite(folder, tensors)
  with pytest.raises(errors.DataError, match=message):
    convert.from_pretrained(folder)


@pytest.mark.parametrize(
  ("values", "message"),
  [
    ({"n_embd": 32}, r"wte\.weight' is \(50, 16\); by .* it is \(50, 32\)"),
    ({"n_layer": 3}, r"lacks transformer\.h\.2\.attn"),
    ({"n_layer": 1}, r"no place for: transformer\.h\.1"),
    ({"n_layer": 10**9}, r"says 1000000000 layers; .* holds 28 tensors"),
    ({"n_layer": 0}, r"config\.json: n_layer=0; allowed: a whole number >= 1"),
    ({"n_layer": True}, r"n_layer=True; allowed: a whole number"),
    # Sizes for which there is no array, nor a number of its bytes.
    ({"n_embd": 10**30}, r"n_embd=10+; allowed: a whole number >= 1, < 2\^31"),
    ({"vocab_size": 2**31 - 1}, r"is \(2147483647, 16\); .* holds \d+ numbers"),
    ({"layer_norm_epsilon": 10**400}, "epsilon=10+.*; allowed: a finite"),
    ({"layer_norm_epsilon": math.nan}, "epsilon=nan; allowed: a finite"),
    ({"n_head": "4"}, r"n_head='4'; allowed"),
    ({"n_head": 3}, r"the model of .*config\.json: .*num_heads=3"),
    ({"layer_norm_epsilon": -1}, "layer_norm_epsilon=-1; allowed: a finite"),
    ({"activation_function": "silu"}, "'silu'; allowed here: 'gelu_new'"),
    ({"scale_attn_by_inverse_layer_idx": True}, "models here have only False"),
    ({"tie_word_embeddings": "no"}, "allowed: true, false"),
    ({"tie_word_embeddings": False}, r"lacks lm_head\.weight"),
    ({"model_type": "gtp2"}, r"architecture 'gtp2'\. Did you mean 'gpt2'\?"),
    ({"model_type": 3}, "model_type=3; allowed: the name"),
    ({"model_type": None, "architectures": None}, "lacks 'model_type'"),
  ],
)
def test_a_config_that_does_not_fit_is_named(folder, values, message):
  _change(folder, **values)
  with pytest.raises(errors.UserError, match=message):
    convert.from_pretrained(folder)


def test_another_architecture_is_told_the_files_names(folder):
  for architecture, message in {
    "llama": r"config\.json lacks 'hidden_size'",
    3: "architecture=3; allowed: a name",
  }.items():
    with pytest.raises(errors.UserError, match=message):
      convert.from_pretrained(folder, architecture=architecture)
  _rewrite(folder, {"model.norm.weight": np.zeros(3, np.float32)})
  _change(folder, n_layer=1)
  with pytest.raises(errors.UserError, match=r"place for: model\.norm\.weight"):
    convert.from_pretrained(folder)


def test_a_model_that_config_json_cannot_say_is_not_written(tmp_path):
  other = models.make("gpt2", norm="rms_norm", num_layers=1, model_dim=8)
  with pytest.raises(
    errors.UserError, match=r"gpt2: its norm is 'rms_norm'; con"
  ):
    convert.save_pretrained(other, tmp_path / "out", architecture="gpt2")
  assert not (tmp_path / "out").exists()
  with pytest.raises(errors.UserError, match="no MLP is written as gpt2"):
    convert.save_pretrained(models.make("mlp"), tmp_path / "out")
  for path, message in {
    "": "folder=''; needed: the path",
    "a" * 300: "cannot write to a+: File name too long",
    "~nobody.of.this.name/a": "Could not determine home",
  }.items():
    with pytest.raises(errors.UserError, match=message):
      convert.save_pretrained(other, path)
  (tmp_path / "config.json").write_text("{}")
  with pytest.raises(errors.UserError, match=r"config\.json exists; choose"):
    convert.save_pretrained(other, tmp_path)


def test_a_run_of_another_model_does_not_start_from_it():
  step = convert.start_step(f"from_pretrained(folder={str(GPT2)!r})")
  options = {"vocab_size": 50, "model_dim": 16, "hidden_dim": 40}
  options |= {"max_length": 12, "dropout_rate": 0.1, "norm": "layer_norm"}
  # Its tensors have the same shapes with two heads.
  model, shapes = nn_variables.split(
    nnx.eval_shape(
      lambda: models.make("gpt2", **options, num_heads=2, rngs=nnx.Rngs(0))
    )
  )
  with pytest.raises(
    errors.UserError, match=r"eps is 1e-06 here and 0\.0001 th"
  ):
    start.check([step], model, shapes)
  with pytest.raises(errors.UserError, match="head_dim is 8 here and 4 there"):
    start.check([step], model, shapes)


@pytest.mark.parametrize(
  ("entry", "message"),
  [
    ("from_pretrained", "folder=''; needed: the folder"),
    ("from_pretrained(folder='a/b')", "no folder 'a/b'"),
    ("from_pretrained('a')", "no folder 'a'"),
    ("from_pretrained( 'a', architecture='gpt2')", "no folder 'a'"),
  ],
)
def test_a_step_without_its_folder(entry, message):
  model, shapes = nn_variables.split(models.make("mlp", num_layers=1))
  with pytest.raises(errors.UserError, match=message):
    start.check([convert.start_step(entry)], model, shapes)


def test_a_config_of_a_folder_trains_its_model(folder, tmp_path):
  words = {"<|endoftext|>": 0, **{f"w{i}": i for i in range(1, 40)}}
  tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, "w1"))
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  tokenizer.save(str(folder / "tokenizer.json"))
  text = tmp_path / "text.txt"
  words = [f"w{i % 39 + 1}" for i in range(4000)]
  lines = (" ".join(words[i : i + 20 + i % 7]) for i in range(0, 3900, 20))
  text.write_text("\n".join(lines))
  config = configure.load("configs/default.py")
  config.data = configure.component(
    "data", "text_files", files=str(text), document="line", sequence_length=12
  )
  config = convert.pretrained_config(config, folder)
  assert (config.model.name, config.norm.eps) == ("gpt2", 1e-4)
  assert config.data.vocab_size == 50
  steps, drawn = build.start_steps(config), drawing.of(config)
  start.check(steps, drawn.model, drawn.shapes)
  with pytest.raises(errors.UserError, match=r"\(60, 16\) here and \(50, 16\)"):
    program.check_start(configure.override(config, {"data.vocab_size": 60}))


def test_modules_that_are_left_out_stay_as_they_are_drawn(folder):
  _change(folder, tie_word_embeddings=False)
  tensors = _tensors(folder)
  tensors["lm_head.weight"] = tensors["transformer.wte.weight"].copy()
  _rewrite(folder, tensors)
  found = convert.from_pretrained(folder)
  other = models.make(
    "gpt2",
    vocab_size=60,
    num_layers=2,
    num_heads=4,
    model_dim=16,
    hidden_dim=40,
    max_length=12,
    norm="layer_norm(eps=1e-4)",
    tied_embeddings=False,
  )
  model, variables = nn_variables.split(other)

  def taken(without):
    text = f"from_pretrained({str(folder)!r}, without={without!r})"
    steps = [convert.start_step(text)]
    start.check(steps, model, jax.eval_shape(lambda: variables))
    return start.apply(steps, model, variables)[1]["params"]

  got, drawn = taken(("head", "embedding")), variables["params"]
  for name in ("head", "embedding"):
    jax.tree.map(np.testing.assert_array_equal, got[name], drawn[name])
  np.testing.assert_array_equal(
    got["position_embedding"], found.position_embedding[...]
  )
  with pytest.raises(
    errors.UserError, match=r"embedding/embedding is \(60, 16"
  ):
    taken("head")
  with pytest.raises(errors.UserError, match="'haed'.*Did you mean 'head'"):
    taken("haed")
