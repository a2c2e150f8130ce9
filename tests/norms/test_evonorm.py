"""What the EvoNorms say of themselves, and their running variance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels_pallas import blocks
from normjax import errors, norms
from tests import support

X = support.normal(4, 3, 3, 8) * 2 + 1
U = 2**-24


@pytest.mark.parametrize("name", ["b0", "b1", "b2", "s0", "s1", "s2"])
def test_they_are_their_own_activation(name):
  assert norms.make(f"evonorm_{name}").traits.contains_activation


def test_models_ask_other_norms_in_vain():
  for name in ("batch_norm", "group_norm", "dyt"):
    assert not norms.make(name).traits.contains_activation


@pytest.mark.parametrize("name", ["b0", "b1", "b2", "s0", "s1", "s2"])
def test_without_nonlinearity_is_scale_and_bias_as_in_the_official_code(name):
  """No statistic, no `v`, and groups that need not divide."""
  norm = norms.make(f"evonorm_{name}")
  bare = norm.without_activation()
  assert bare == norms.make(f"evonorm_{name}", nonlinearity=False)
  assert bare.without_activation() == bare
  variables = bare.init((8,))
  assert set(variables["params"]) == {"scale", "bias"}
  assert not variables["stats"]
  params = {"scale": jnp.arange(8.0), "bias": -jnp.ones(8)}
  y, stats = bare.apply({"params": params}, X)
  # Two roundings of values below 64.
  want = np.float64(X) * np.arange(8.0) - 1
  np.testing.assert_allclose(y, want, rtol=0, atol=2 * 64 * U)
  assert not stats
  with pytest.raises(errors.UserError, match="8 features"):
    bare.apply({"params": params}, X[..., :4])


def test_every_norm_has_a_version_without_activation():
  for name in norms.names():
    norm = norms.make(name)
    bare = norm.without_activation()
    assert not bare.traits.contains_activation
    assert (bare == norm) == (not norm.traits.contains_activation)
  gated = norms.make("gated_norm", inner="evonorm_s1")
  assert not gated.without_activation().traits.contains_activation
  # FRN still normalises.
  frn = norms.make("frn", eps=0.1)
  assert frn.without_activation() == norms.make("frn", eps=0.1, tlu=False)


def test_running_variance_goes_to_the_batch_variance():
  """At the rate 0.9^t, on a batch that is repeated; so does evaluation."""
  norm = norms.make("evonorm_b0")
  variables = norm.init((8,))
  trained, _ = norm.apply(variables, X)
  target = np.var(np.float64(X), axis=(0, 1, 2))
  for step in range(1, 41):
    _, stats = norm.apply(variables, X)
    variables = {**variables, "stats": stats}
    if step in (1, 10):
      # Sums of 36 squares below 64, over 10 steps.
      np.testing.assert_allclose(
        stats["var"], target + 0.9**step * (1 - target), rtol=46 * U * 10
      )
  evaluated, _ = norm.apply(variables, X, train=False)
  # 0.9^40 of the distance is left; a root halves it, y is below 3.
  np.testing.assert_allclose(
    evaluated, trained, rtol=0, atol=0.9**40 * np.abs(1 - target).max() * 3
  )


@pytest.mark.parametrize("name", ["evonorm_b0", "evonorm_s0"])
def test_constant_maps_and_single_pixels_are_finite(name):
  options = {"num_groups": 2} if name == "evonorm_s0" else {}
  norm = norms.make(name, **options)
  variables = norm.init((8,))
  for x in (jnp.ones((2, 3, 3, 8)), X[:, :1, :1], jnp.zeros((2, 1, 1, 8))):

    def loss(x):
      return jnp.sum(jnp.sin(norm.apply(variables, x)[0]))

    value, gradient = jax.value_and_grad(loss)(x)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_batch_of_one_value_and_missing_statistics_are_errors():
  norm = norms.make("evonorm_b0")
  variables = norm.init((8,))
  with pytest.raises(errors.UserError, match="more than one value"):
    norm.apply(variables, X[:1, :1, :1])
  with pytest.raises(errors.UserError, match="running statistics 'var'"):
    norm.apply({"params": variables["params"]}, X, train=False)


@pytest.mark.parametrize("name", ["evonorm_b0", "evonorm_b1", "evonorm_s0"])
def test_some_images_at_a_time_are_all_images(name, monkeypatch):
  """Blocks of two images, as large arrays have on a CPU, change nothing."""
  norm = norms.make(name, **({"num_groups": 2} if "_s" in name else {}))
  variables = norm.init((8,))

  def passes():
    y, pull = jax.vjp(
      lambda params, x: norm.apply({**variables, "params": params}, x)[0],
      variables["params"],
      X,
    )
    return y, pull(jnp.sin(X))

  whole = passes()
  monkeypatch.setattr(blocks, "pay", lambda x: True)
  monkeypatch.setattr(blocks, "_IMAGE_VALUES", 2 * X[0].size)
  # Sums over the 9 pixels of an image and then over the 4 images, either way.
  for a, b in zip(*map(jax.tree.leaves, (passes(), whole)), strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=36 * U * np.abs(b).max())
