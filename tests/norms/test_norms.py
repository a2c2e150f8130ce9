"""The table of norms: names, specs, options, and what importing it costs."""

import subprocess
import sys

import ml_collections
import pytest

from normjax import configure, errors, norms


def test_importing_the_table_does_not_import_jax():
  code = "import sys, normjax.norms; sys.exit('jax' in sys.modules)"
  assert (
    subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
  )


def test_resolve():
  made = norms.make("rms_norm", eps=0.5)
  assert norms.resolve(made) is made
  assert norms.resolve({"name": "rms_norm", "eps": 0.5}) == made
  spec = ml_collections.ConfigDict({"name": "rms_norm", "eps": 0.5})
  assert norms.resolve(spec) == made
  assert spec.name == "rms_norm"
  assert norms.resolve("rms_norm") != made
  assert norms.resolve("rms_norm") == norms.make("rms_norm")


@pytest.mark.parametrize("name", norms.names())
def test_config_is_the_factory_with_its_defaults(name):
  config = configure.component("norm", name)
  assert norms.resolve(config) == norms.make(name)
  # A flag sets no leaf that has no type.
  assert type(None) not in [config.get_type(leaf) for leaf in config]


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
@pytest.mark.parametrize("impl", ["xla", ("xla", "reference")])
def test_a_config_has_an_implementation_or_several(name, impl):
  config = configure.load("configs/default.py")
  config = configure.override(config, {"norm.name": name, "norm.impl": impl})
  assert norms.resolve(config.norm) == norms.make(name, impl=impl)


@pytest.mark.parametrize(
  ("spec", "message"),
  [
    ("layernorm", "Did you mean 'layer_norm'"),
    ({"eps": 1e-5}, "lacks 'name'"),
    ({"name": "rms_norm", "epsilon": 1e-5}, "Did you mean 'eps'"),
    ({"name": "rms_norm", "eps": 0}, "eps=0; allowed: .* > 0"),
    (
      {"name": "rms_norm", "impl": "cuda"},
      "impl='cuda'; allowed: 'mosaic_gpu', 'pallas_tpu'",
    ),
    ({"name": "rms_norm", "impl": -1}, "rms_norm: impl=-1; allowed: 'mosaic"),
    (
      {"name": "layer_norm", "impl": "pallas"},
      "impl='pallas'; allowed: 'mosaic_gpu', 'pallas_tpu', 'xla_blocks'",
    ),
    (
      {"name": "layer_norm", "eps": "1e-5"},
      "eps='1e-5'; allowed: a",
    ),
    ({"name": "layer_norm", "eps": float("nan")}, "eps=nan; allowed: a finite"),
    ({"name": "dyt", "alpha_init": True}, "alpha_init=True; allowed: a finite"),
    (
      {"name": "batch_norm", "momentum": 1.5},
      "=1.5; .* >= 0 and <= 1",
    ),
    (
      {"name": "batch_norm", "running_variance": "torch"},
      "='torch'; allowed: 'unbiased', 'biased'",
    ),
  ],
)
def test_bad_specs_say_what_is_allowed(spec, message):
  with pytest.raises(errors.UserError, match=message):
    norms.resolve(spec)


def test_neither_name_nor_mapping():
  with pytest.raises(TypeError, match="got 3"):
    norms.resolve(3)
