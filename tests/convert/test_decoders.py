"""LLaMA, Qwen2, Qwen3, OLMo 2 and GPT-NeoX: as transformers computes them."""

import json
import os
import shutil
import subprocess

import jax
import numpy as np
import pytest
from safetensors import numpy as safetensors

from normjax import convert, errors, models
from normjax.convert import architecture, pretrained
from normjax.convert.architectures import rotary_settings
from normjax.convert.settings import Settings
from tests import support

RECORDED = support.ROOT / "tests/convert/recorded"
NAMES = (
  "llama",
  "llama3",
  "llama_biased",
  "qwen2",
  "qwen3",
  "olmo2",
  "gpt_neox",
  "gpt_neox_serial",
)


def _config(name):
  return json.loads((RECORDED / name / "config.json").read_text())


def _options(config):
  settings = Settings(config, "config.json")
  return architecture.of(settings).options(settings)


@pytest.fixture(scope="module", params=NAMES)
def name(request):
  return request.param


@pytest.fixture(scope="module")
def model(name):
  return convert.from_pretrained(RECORDED / name)


def test_logits_are_those_of_transformers(name, model):
  recorded = np.load(RECORDED / name / "logits.npz")
  inputs, want = recorded["inputs"], recorded["logits"]
  logits = model(inputs, train=False)
  # Two blocks of five dense layers, the embedding and the head, each a sum of
  # at most 32 rounded products, as in tests/models/test_equality.py.
  bound = 5 * (12 * 32) ** 0.5 * 2**-24 * np.abs(want).max()
  for got in (logits, recorded["logits_float32"]):
    np.testing.assert_allclose(got, want, rtol=0, atol=bound)
  with jax.enable_x64(True):
    exact = convert.from_pretrained(RECORDED / name, dtype="float64")
    logits = jax.jit(lambda inputs: exact(inputs, train=False))(inputs)
    np.testing.assert_allclose(logits, want, rtol=0, atol=1e-12)


def test_what_is_written_is_what_was_read(name, model, tmp_path):
  """Names and bits of all tensors, and a config.json that says the same."""
  convert.save_pretrained(model, tmp_path, dtype="bfloat16")
  want = safetensors.load_file(RECORDED / name / "model.safetensors")
  got = safetensors.load_file(tmp_path / "model.safetensors")
  assert got.keys() == want.keys()
  for tensor in want:
    assert got[tensor].dtype == want[tensor].dtype
    np.testing.assert_array_equal(got[tensor], want[tensor], tensor)
  written = json.loads((tmp_path / "config.json").read_text())
  assert _options(written) == _options(_config(name))
  assert written["architectures"] == _config(name)["architectures"]


@pytest.mark.slow
@pytest.mark.skipif(
  "NORMJAX_PEERS_PYTHON" not in os.environ,
  reason="NORMJAX_PEERS_PYTHON names no Python with torch and transformers",
)
def test_transformers_loads_what_is_written(name, model, tmp_path):
  convert.save_pretrained(model, tmp_path)
  recorded = RECORDED / name / "logits.npz"
  shutil.copy(recorded, tmp_path)
  subprocess.run(
    [
      os.environ["NORMJAX_PEERS_PYTHON"],
      RECORDED / "record_decoders.py",
      "--check",
      tmp_path,
    ],
    env={},
    check=True,
  )


def test_a_default_that_does_not_fit_is_named():
  """A quarter of four features is one, which has no pair."""
  config = _config("gpt_neox")
  del config["rope_parameters"]
  with pytest.raises(
    errors.UserError, match=r"partial_rotary_factor; of the 4"
  ):
    _options(config)


# What transformers 4 writes in place of rope_parameters.
OLD = {
  "llama": {"rope_theta": 10_000.0, "rope_scaling": None},
  "llama3": {
    "rope_theta": 500.0,
    "rope_scaling": {
      "factor": 8.0,
      "high_freq_factor": 4.0,
      "low_freq_factor": 0.5,
      "original_max_position_embeddings": 50,
      "rope_type": "llama3",
    },
  },
  "llama_biased": {
    "rope_theta": 1_000.0,
    "rope_scaling": {"type": "linear", "factor": 3.0},
  },
  "gpt_neox": {"rotary_emb_base": 10_000, "rotary_pct": 0.5},
  "gpt_neox_serial": {
    "rotary_emb_base": 1_000,
    "rotary_pct": 1.0,
    "rope_scaling": {"type": "linear", "factor": 2.0},
  },
}


@pytest.mark.parametrize("name", OLD)
def test_an_older_config_says_the_same(name):
  new = _config(name)
  old = {k: v for k, v in new.items() if k != "rope_parameters"} | OLD[name]
  assert _options(old) == _options(new)


def test_defaults_of_a_key_that_is_not_there():
  """Those of transformers' configs; LLaMA 1's files say little."""
  sizes = {"hidden_size": 32, "intermediate_size": 24, "vocab_size": 50}
  sizes |= {"num_hidden_layers": 2, "num_attention_heads": 4}
  made = {
    kind: _options({"model_type": kind, **sizes})[1]
    for kind in ("llama", "qwen3", "olmo2", "gpt_neox")
  }
  for options in made.values():
    assert options["rope_theta"] == 10_000.0
    assert options["rope_scaling"] == "none"
    assert options["tied_embeddings"] is False
  assert made["llama"]["num_kv_heads"] == 4
  assert made["llama"]["norm"] == {"name": "rms_norm", "eps": 1e-6}
  assert made["olmo2"]["norm"]["eps"] == made["gpt_neox"]["norm"]["eps"] == 1e-5
  assert made["qwen3"]["head_dim"] == 128
  assert made["gpt_neox"]["rotary_dim"] == 2
  assert made["gpt_neox"]["placement"] == "parallel_two_norms"


LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


@pytest.mark.parametrize(
  ("name", "values", "message"),
  [
    (
      "llama",
      {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
      "rope_scaling.rope_type='yarn'; allowed here: 'default', 'linear'",
    ),
    (
      "llama",
      {"rope_scaling": {"type": "dynamic", "factor": 4.0}},
      "rope_scaling.type='dynamic'; allowed here",
    ),
    (
      "llama",
      {"rope_scaling": {"type": "linear"}},
      "lacks rope_scaling.'factor'",
    ),
    (
      "llama3",
      {"rope_scaling": {"rope_type": "llama3", **LLAMA3, "factor": 0}},
      "rope_scaling.factor=0; allowed: a finite number > 0",
    ),
    (
      "llama",
      {"rope_parameters": {"full_attention": {"rope_type": "default"}}},
      "rope_type; models here have one rotation for all layers",
    ),
    (
      "llama",
      {"partial_rotary_factor": 0.5},
      "partial_rotary_factor=0.5; models here rotate all features",
    ),
    (
      "llama3",
      {"rope_parameters": {"rope_type": "linear", "factor": 0.5}},
      "config.json: rope_scaling linear: factor=0.5; allowed: .* >= 1",
    ),
    ("qwen2", {"layer_types": [["a"]]}, r"layer_types=\[\['a'\]\]; models"),
    ("llama", {"hidden_act": "relu2"}, "hidden_act='relu2'; allowed here"),
    ("llama", {"mlp_bias": "no"}, "mlp_bias='no'; allowed: true, false"),
    (
      "llama",
      {"num_attention_heads": 3, "head_dim": None},
      "num_attention_heads=3; allowed: a divisor of hidden_size=16",
    ),
    (
      "llama",
      {"num_key_value_heads": 3},
      "num_key_value_heads=3; allowed: a divisor of num_attention_heads=4",
    ),
    ("qwen3", {"head_dim": 5}, "head_dim=5; heads have 5 features, and those"),
    ("llama", {"rms_norm_eps": 0}, "rms_norm_eps=0; allowed"),
    (
      "qwen2",
      {"layer_types": ["full_attention", "sliding_attention"]},
      r"layer_types=\[.*\]; models here have only 'full_attention'",
    ),
    (
      "qwen3",
      {"layer_types": None, "use_sliding_window": True, "max_window_layers": 1},
      "use_sliding_window=True; models here attend to all tokens",
    ),
    (
      "gpt_neox",
      {"rope_parameters": None, "rotary_pct": 0.8},
      "rotary_pct=0.8; of the 4 features of a head that is 3",
    ),
    ("gpt_neox", {"use_parallel_residual": 1}, "use_parallel_residual=1; allo"),
    (
      "qwen2",
      {"layer_types": None, "use_sliding_window": True, "max_window_layers": 0},
      "use_sliding_window=True; models here attend to all tokens",
    ),
    (
      "gpt_neox",
      {"hidden_act": "gelu_fast"},
      "hidden_act='gelu_fast'; allowed",
    ),
    ("llama", {"model_type": "mistral"}, "unknown architecture 'mistral'"),
  ],
)
def test_a_setting_that_no_model_here_has_is_named(name, values, message):
  config = {k: v for k, v in _config(name).items() if k not in values}
  with pytest.raises(errors.UserError, match=message):
    _options({**config, **values})


def test_a_window_that_no_layer_reaches_is_none():
  """As the released Qwen2.5 say it."""
  config = {**_config("qwen2"), "layer_types": None}
  window = {"use_sliding_window": True, "max_window_layers": 28}
  assert _options({**config, **window}) == _options(config)
  # No window at all, whichever layers would have it.
  none = {"use_sliding_window": False, "max_window_layers": 0}
  assert _options({**config, **none}) == _options(config)


def test_a_share_says_every_number_of_features():
  """A product of size and share is rounded down, and shares are rounded."""
  for size in range(2, 257):
    for rotary_dim in range(2, size + 1, 2):
      share = rotary_settings.share_of(rotary_dim, size)
      assert int(size * share) == rotary_dim
      assert share <= 1.0


# Parameters of released models, as their model cards and papers count them.
# Embedding and head once where they are one.
RELEASED = {
  "SmolLM2-135M": (
    {
      "model_type": "llama",
      "vocab_size": 49_152,
      "hidden_size": 576,
      "intermediate_size": 1_536,
      "num_hidden_layers": 30,
      "num_attention_heads": 9,
      "num_key_value_heads": 3,
      "tie_word_embeddings": True,
    },
    134_515_008,
  ),
  "Qwen2.5-0.5B": (
    {
      "model_type": "qwen2",
      "vocab_size": 151_936,
      "hidden_size": 896,
      "intermediate_size": 4_864,
      "num_hidden_layers": 24,
      "num_attention_heads": 14,
      "num_key_value_heads": 2,
      "tie_word_embeddings": True,
    },
    494_032_768,
  ),
  "Qwen3-0.6B": (
    {
      "model_type": "qwen3",
      "vocab_size": 151_936,
      "hidden_size": 1_024,
      "intermediate_size": 3_072,
      "num_hidden_layers": 28,
      "num_attention_heads": 16,
      "num_key_value_heads": 8,
      "head_dim": 128,
      "tie_word_embeddings": True,
    },
    596_049_920,
  ),
  # Biderman et al. 2023, arXiv:2304.01373, table 1.
  "pythia-70m": (
    {
      "model_type": "gpt_neox",
      "vocab_size": 50_304,
      "hidden_size": 512,
      "intermediate_size": 2_048,
      "num_hidden_layers": 6,
      "num_attention_heads": 8,
      "rotary_pct": 0.25,
    },
    70_426_624,
  ),
}


@pytest.mark.parametrize("name", RELEASED)
def test_released_sizes_have_their_number_of_parameters(name):
  config, want = RELEASED[name]
  made, options = _options(config)
  shapes = pretrained.in_shapes(made, **options)[1]["params"]
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == want


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"norm": "layer_norm"}, "norm is"),
    ({"residual": "rezero"}, "llama"),
    ({"scaled_embeddings": True}, "scaled_embeddings is True here"),
    ({"logit_cap": 30.0}, "logit_cap is 30.0 here"),
    ({"placement": "sandwich"}, "llama"),
    ({"rotary_dim": 2}, "rotary_dim is 2 here and 4 there"),
  ],
)
def test_what_no_release_has_is_not_written(options, message, tmp_path):
  sizes = {"num_layers": 1, "model_dim": 16, "num_heads": 4}
  model = models.make("llama", **sizes, **options)
  with pytest.raises(errors.UserError, match=message):
    convert.save_pretrained(model, tmp_path / "out", architecture="llama")
  assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("linear", ["lora(rank=2)", "sltrain(rank=2)"])
def test_matrices_held_as_factors_are_named(linear, tmp_path):
  model = models.make(
    "llama", num_layers=1, model_dim=8, num_heads=2, linear=linear
  )
  with pytest.raises(errors.UserError) as caught:
    convert.save_pretrained(model, tmp_path / "out")
  said = str(caught.value)
  assert "layers/0/attention/" in said
  assert "linear='dense'" in said
  assert "AttributeError" not in said
  assert not (tmp_path / "out").exists()


def test_a_bias_is_no_detail(tmp_path):
  """Qwen2 is not LLaMA without biases, whose settings are the same."""
  options = {"num_layers": 1, "model_dim": 16, "num_heads": 4}
  model = models.make("llama", **options, attention_bias="query_key_value")
  model.eval()  # As a finished run has it, which is no setting either.
  with pytest.raises(errors.UserError, match="key/bias is not there"):
    convert.save_pretrained(model, tmp_path / "llama", architecture="llama")
  convert.save_pretrained(model, tmp_path / "any")
  written = json.loads((tmp_path / "any/config.json").read_text())
  assert written["model_type"] == "qwen2"
