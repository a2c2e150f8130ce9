"""Another norm in a trained model."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from normjax import convert, errors, models
from normjax.convert import surgery
from normjax.nn import start
from normjax.nn import variables as nn_variables
from normjax.nn.norm_layer import NormLayer
from tests.convert.test_removal import SMALL, TOKENS, called, gpt2

ONE = {"num_layers": 1}


@functools.cache
def trained():
  return gpt2(**ONE)


def norms_of(model):
  return {
    "/".join(map(str, path)): layer
    for path, layer in nnx.iter_modules(model)
    if isinstance(layer, NormLayer)
  }


def test_gated_norms_start_as_what_was_there():
  model = trained()
  gated = convert.replace_norm(model, "gated_norm")
  assert {layer.norm.name for layer in norms_of(gated).values()} == {
    "gated_norm"
  }
  np.testing.assert_array_equal(called(gated), called(model))
  downs = [layer.gate_down[...] for layer in norms_of(gated).values()]
  assert np.abs(downs[0] - downs[1]).max() > 0


@pytest.mark.parametrize(
  "form", ["zero_centered=True", "scale_form='magnitude_direction'"]
)
def test_gains_are_carried_over_in_every_form(form):
  """Rounding of 1 + (gain - 1), and of a length: 2^-23 of logits near 1."""
  model = trained()
  there = convert.replace_norm(model, f"layer_norm(eps=1e-5, {form})")
  np.testing.assert_allclose(called(there), called(model), atol=2e-6)
  back = convert.replace_norm(there, "layer_norm(eps=1e-5)")
  for path, layer in norms_of(back).items():
    old = norms_of(model)[path]
    np.testing.assert_allclose(layer.scale[...], old.scale[...], rtol=1e-6)
    np.testing.assert_array_equal(layer.bias[...], old.bias[...])


@pytest.mark.parametrize("name", ["dyt", "derf"])
def test_a_calibrated_start_is_by_what_the_norm_is_given(name):
  """By NumPy: the median deviation, and the least-squares factor."""
  rng = np.random.default_rng(0)
  x = (rng.normal(size=(2, 5, 8)) * 7).astype(np.float32)
  x[:, 0] *= 1000  # A first token moves no median.
  layer = NormLayer("layer_norm(eps=1e-5)", (8,))
  layer.scale.set_value(jnp.full(8, 3.0))
  layer.bias.set_value(jnp.ones(8))
  new = surgery.norms.make(name)
  found = surgery.start_of(layer, new, jnp.asarray(x))
  wide = x.astype(np.float64)
  alpha = 0.5 / np.median(np.sqrt((wide**2).mean(-1)))
  centre = wide - wide.mean(-1, keepdims=True)
  old = centre / np.sqrt((centre**2).mean(-1, keepdims=True) + 1e-5)
  function = {"dyt": np.tanh, "derf": jax.scipy.special.erf}[name]
  bounded = np.asarray(function(alpha * wide))
  factor = (old * bounded).sum() / (bounded**2).sum()
  np.testing.assert_allclose(found["alpha"], alpha, rtol=1e-5)
  np.testing.assert_allclose(found["factor"], factor, rtol=1e-5)


def test_calibration_as_a_start_step_is_nearer_to_the_model():
  model = trained()
  structure, variables = nn_variables.split(model)
  step = convert.start_step("replace_norm('dyt', calibrate=True)")
  start.check([step], structure, variables)
  announced, _ = start.in_shapes([step], structure, variables)
  changed, found = start.apply([step], structure, variables, TOKENS)
  assert changed == announced
  calibrated = nn_variables.merge(changed, found)
  plain = convert.replace_norm(model, "dyt")
  expected = called(model)
  apart = [np.abs(called(m) - expected).max() for m in (calibrated, plain)]
  assert apart[0] < apart[1] / 2
  first = calibrated.layers[0].attention_input_norm
  old = model.layers[0].attention_input_norm
  np.testing.assert_array_equal(first.bias[...], old.bias[...])
  ratio = first.scale[...] / old.scale[...]
  np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)
  with pytest.raises(errors.UserError, match="reads inputs of a batch"):
    start.apply([step], structure, variables)


def test_where_says_which_norms():
  found = convert.replace_norm(trained(), "rms_norm", where="final")
  assert {k: v.norm.name for k, v in norms_of(found).items()} == {
    "final_norm": "rms_norm",
    "layers/0/attention_input_norm": "layer_norm",
    "layers/0/feed_forward_input_norm": "layer_norm",
  }


@pytest.mark.parametrize(
  ("entry", "message"),
  [
    ("replace_norm", "norm=''; needed: the name of a norm"),
    ("replace_norm('dy')", "dyt"),
    ("replace_norm('dyt(alpha=1)')", "alpha"),
    ("replace_norm('dyt', calibrate=1)", "calibrate"),
    ("replace_norm('dyt', where='(')", "where"),
  ],
)
def test_what_the_step_is_told_is_checked(entry, message):
  with pytest.raises(errors.UserError, match=message):
    convert.start_step(entry)


@pytest.mark.parametrize(
  ("entry", "message"),
  [
    ("replace_norm('rms_norm', calibrate=True)", "rms_norm has no alpha"),
    ("replace_norm('instance_norm')", "must not see later ones"),
    ("replace_norm('dyt', where='nowhere')", "no norm at where='nowhere'"),
  ],
)
def test_what_does_not_fit_the_model_is_named(entry, message):
  step = convert.start_step(entry)
  structure, shapes = nn_variables.split(
    nnx.eval_shape(lambda: models.make("gpt2", **SMALL | ONE))
  )
  with pytest.raises(errors.UserError, match=message):
    start.check([step], structure, shapes)
