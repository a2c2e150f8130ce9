"""E-I layers against a transcription and gradients derived by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from normjax import errors
from normjax.nn import variables as nn_variables
from normjax.nn.excitatory_inhibitory import (
  ExcitatoryInhibitory,
  non_negative,
  replace_zeros,
)

DENSE, CONV = (
  {"inputs": 6, "outputs": 8},
  {"inputs": 2, "outputs": 8, "kernel_size": 3, "stride": 2},
)


def patches(x, options):
  """(b, places, d): what each cell reads."""
  if "kernel_size" not in options:
    return x[:, None]
  padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  rows = range(0, x.shape[1], options["stride"])
  return np.stack(
    [
      padded[:, i : i + 3, j : j + 3].reshape(len(x), -1)
      for i in rows
      for j in rows
    ],
    axis=1,
  )


def reference(p, x, g):
  """Y and the gradients of sum(g y); x is (b, places, d), g (b, places, n)."""
  d = x.shape[-1]
  w = {
    name: value if name == "bias" else np.maximum(value, 0)
    for name, value in p.items()
  }
  ee, ie = (w[f"kernel_{k}"].reshape(d, -1) for k in ("ee", "ie"))
  ei, gain_i, gain_e = w["kernel_ei"], w["gain_i"], w["gain_e"]
  i_ie = x @ ie
  balanced = x @ ee - i_ie @ ei
  divisor = (gain_i * i_ie) @ ei
  for sample in divisor:
    others = sample[sample != 0]
    sample[sample == 0] = others.min() if len(others) else np.inf
  y = gain_e * balanced / divisor + w["bias"]
  to_balanced = g * gain_e / divisor
  # Straight through the replacement, with the replaced value.
  to_divisor = -g * gain_e * balanced / divisor**2
  to_ie = -to_balanced @ ei.T + (to_divisor @ ei.T) * gain_i

  def outer(a, b):
    return np.einsum("bpi,bpj->ij", a, b)

  gradients = {
    "kernel_ee": outer(x, to_balanced).reshape(p["kernel_ee"].shape),
    "kernel_ie": outer(x, to_ie).reshape(p["kernel_ie"].shape),
    "kernel_ei": (outer(gain_i * i_ie, to_divisor) - outer(i_ie, to_balanced))
    / d,
    "gain_i": ((to_divisor @ ei.T) * i_ie).sum((0, 1)),
    "gain_e": (g * balanced / divisor).sum((0, 1)),
    "bias": g.sum((0, 1)),
  }
  return y, gradients


def functional(options, **more):
  """(params, apply) in float64; some weights are below 0."""
  layer = ExcitatoryInhibitory(**options, **more, rngs=nnx.Rngs(0))
  structure, variables = nn_variables.split(layer)
  rng = np.random.default_rng(0)
  params = {
    name: np.asarray(value, np.float64)
    + (rng.normal(0, 0.3, value.shape) if name != "gain_e" else 0)
    for name, value in variables["params"].items()
  }
  if "gain_i" in params:
    params["gain_i"] = np.abs(params["gain_i"])
  # No inhibition reaches cell 3.
  params["kernel_ei"][:, 3] = -0.1

  def apply(params, x):
    held = {"params": params, "stats": {}, "grad_stats": {}}
    return nn_variables.merge(structure, held)(x)

  return params, apply


def spikes(options, size=5):
  shape = (4, 4, 2) if "kernel_size" in options else (6,)
  x = (np.random.default_rng(1).random((size, *shape)) < 0.4).astype(float)
  x[2] = 0.0  # An example in which nothing fires.
  return x


@pytest.mark.parametrize("options", [DENSE, CONV], ids=["dense", "conv"])
def test_equals_a_transcription_forward_and_back(options):
  params, apply = functional(options)
  x = spikes(options)
  seen = patches(x, options)
  g = np.random.default_rng(2).normal(size=(*seen.shape[:2], 8))
  want, want_gradients = reference(params, seen, g)
  with jax.enable_x64(True):

    @jax.jit
    def both(params, x, g):
      y, pull = jax.vjp(apply, params, x)
      return y, pull(g.reshape(y.shape))

    y, (gradients, to_x) = jax.device_get(
      both(jax.tree.map(jnp.asarray, params), jnp.asarray(x), jnp.asarray(g))
    )
  # Quotients of sums of 18 float64 terms, by divisors of 1e-3 and more.
  np.testing.assert_allclose(y.reshape(want.shape), want, rtol=1e-9, atol=1e-12)
  for name, expected in want_gradients.items():
    np.testing.assert_allclose(
      gradients[name], expected, rtol=1e-9, atol=1e-9, err_msg=name
    )
  assert np.isfinite(to_x).all()
  # Without any inhibition the quotient is 0 and the bias is left.
  np.testing.assert_array_equal(
    np.broadcast_to(params["bias"], y[2].shape), y[2]
  )


def test_the_two_parts_of_e_i_prop_may_be_left_out():
  x = jnp.asarray(spikes(DENSE), jnp.float32)

  def gradient(**more):
    params, apply = functional(DENSE, **more)
    params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), params)

    @jax.jit
    def both(params):
      y, pull = jax.vjp(lambda p: apply(p, x), params)
      return pull(jnp.ones_like(y))[0], y

    return jax.device_get(both(params))

  scaled, _ = gradient()
  plain, _ = gradient(scale_gradient=False)
  np.testing.assert_allclose(
    plain["kernel_ei"], scaled["kernel_ei"] * 6, rtol=1e-6
  )
  np.testing.assert_array_equal(plain["kernel_ie"], scaled["kernel_ie"])
  _, unguarded = gradient(replace_zeros=False)
  # Cell 3 has no inhibition to be divided by, and example 2 none at all.
  assert not np.isfinite(unguarded[:, 3]).any()
  assert np.isfinite(unguarded[0, [0, 1, 2]]).all()


def test_a_readout_gives_the_balanced_current():
  params, apply = functional(DENSE, readout=True)
  assert sorted(params) == ["kernel_ee", "kernel_ei", "kernel_ie"]
  x = spikes(DENSE)
  with jax.enable_x64(True):
    got = apply(jax.tree.map(jnp.asarray, params), jnp.asarray(x))
  ee, ei, ie = (np.maximum(params[name], 0) for name in sorted(params))
  np.testing.assert_allclose(got, x @ ee - x @ ie @ ei, atol=1e-13)


def test_zeros_are_replaced_by_the_smallest_other_value_of_the_example():
  x = jnp.asarray([[0.0, 3.0, 2.0], [0.0, 0.0, 0.0], [1.0, 4.0, 0.0]])
  y, pull = jax.vjp(replace_zeros, x)
  np.testing.assert_array_equal(
    y, [[2, 3, 2], [np.inf, np.inf, np.inf], [1, 4, 1]]
  )
  g = jnp.arange(9.0).reshape(3, 3)
  np.testing.assert_array_equal(pull(g)[0], g)


def test_a_clamped_weight_gets_its_whole_gradient():
  w = jnp.asarray([-0.5, 0.0, 2.0])
  np.testing.assert_array_equal(non_negative(w), [0, 0, 2])
  gradient = jax.grad(lambda w: jnp.sum(3 * non_negative(w)))(w)
  np.testing.assert_array_equal(gradient, [3, 3, 3])


def _initialized(rate=0.3, d=500, outputs=400):
  rng = np.random.default_rng(3)
  x = (rng.random((256, d)) < rate).astype(np.float32)
  layer = ExcitatoryInhibitory(d, outputs, rngs=nnx.Rngs(0))
  layer.initialize_on(jnp.asarray(x), jax.random.key(5))
  return layer, x


def test_weights_are_drawn_with_the_scales_of_the_inputs():
  layer, x = _initialized()
  mean, square = x.mean(), (x**2).mean()
  variance = x.var(axis=0, ddof=1).mean()
  scale = np.sqrt(variance / (500 * (square + variance)))
  for kernel in (layer.kernel_ee[...], layer.kernel_ie[...]):
    kernel = np.asarray(kernel)
    assert kernel.min() >= 0
    # An exponential's deviation is its mean; five standard errors.
    assert abs(kernel.mean() / scale - 1) < 5 / np.sqrt(kernel.size)
    # Its fourth moment is 24, so that the variance's error is sqrt(8 / n).
    assert abs(kernel.var() / scale**2 - 1) < 5 * np.sqrt(8 / kernel.size)
  assert np.corrcoef(
    np.ravel(layer.kernel_ee[...])[:50_000], np.ravel(layer.kernel_ie[...])
  )[0, 1] == pytest.approx(0, abs=5 / np.sqrt(50_000))
  np.testing.assert_array_equal(layer.kernel_ei[...], np.float32(1 / 100))
  gain = np.sqrt(square + variance) / (np.sqrt(500) * mean)
  # A dozen roundings.
  np.testing.assert_allclose(layer.gain_i[...], gain, rtol=12 * 2**-24)
  np.testing.assert_array_equal(layer.gain_e[...], 1)
  np.testing.assert_array_equal(layer.bias[...], 0)


def test_the_divisor_is_the_inputs_deviation_and_the_output_below_one():
  layer, x = _initialized()
  divisor = (x @ layer.kernel_ie[...] * layer.gain_i[...]) @ (
    layer.kernel_ei[...]
  )
  variance = x.var(axis=0, ddof=1).mean()
  # Relative errors of a mean over 500 x 100 weights and 256 examples of 500
  # inputs of deviation 0.46 and mean 0.3; five of them.
  error = np.hypot(1 / np.sqrt(5e4), 0.46 / 0.3 / np.sqrt(256 * 500))
  assert abs(divisor.mean() / np.sqrt(variance) - 1) < 5 * error
  y = np.asarray(layer(jnp.asarray(x)))
  predicted = np.sqrt(0.3 / (0.3 + 0.21))
  assert predicted == pytest.approx(0.767, abs=5e-4)
  # Were the 400 cells the only independent draws, the deviation's relative
  # error would be 1 / sqrt(800); two of those.
  assert abs(y.std() / predicted - 1) < 2 / np.sqrt(800)


def test_inputs_that_never_vary_leave_usable_weights():
  layer = ExcitatoryInhibitory(6, 8, rngs=nnx.Rngs(0))
  for x in (jnp.zeros((4, 6)), jnp.ones((4, 6))):
    layer.initialize_on(x, jax.random.key(0))
    params = nn_variables.split(layer)[1]["params"]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))
    assert layer.kernel_ee[...].min() > 0


def test_bad_input_is_named():
  layer = ExcitatoryInhibitory(6, 8, rngs=nnx.Rngs(0))
  with pytest.raises(errors.UserError, match=r"dense layer takes \(b, feat"):
    layer(jnp.zeros((2, 3, 6)))
  with pytest.raises(errors.UserError, match="ratio=0; allowed: an int >= 1"):
    ExcitatoryInhibitory(6, 8, ratio=0, rngs=nnx.Rngs(0))
