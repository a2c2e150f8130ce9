"""Multi-normalization, its instances SinkGD and SWAN, and whitening."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import optim
from normjax.optim import multi_norm, whitening
from normjax.optim.swan import grad_norm


def tree(seed=0):
  rng = np.random.default_rng(seed)

  def normal(*shape):
    return jnp.asarray(rng.normal(size=shape))

  return {
    "layers": {
      "0": {"attention": {"query": {"kernel": normal(12, 2, 8)}}},
      "1": {"mlp": {"kernel": normal(12, 20)}, "conv": normal(3, 3, 4, 6)},
    },
    "norm": {"scale": normal(12)},
  }


def moved(tx, gradients):
  updates, state = jax.jit(tx.update)(gradients, tx.init(gradients))
  assert not jax.tree.leaves(state)
  return updates


def assert_equal(actual, expected, rtol):
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=rtol), actual, expected
  )


@pytest.mark.parametrize("num_iters", [1, 5])
def test_sinkgd_is_an_instance(num_iters):
  with jax.enable_x64(True):
    gradients = tree()
    actual = moved(
      optim.scale_by_multi_norm(("row_l2", "column_l2"), num_iters), gradients
    )
    expected = moved(optim.scale_by_sinkhorn(num_iters), gradients)
  assert_equal(actual, expected, rtol=0)


def test_swan_is_an_instance():
  with jax.enable_x64(True):
    gradients = tree()
    for spectral in (
      "spectral",
      functools.partial(whitening.whiten, ns_steps=10, ns_beta=0.8),
    ):
      actual = moved(
        optim.scale_by_multi_norm(("row_l2", spectral), 1), gradients
      )
      expected = moved(optim.scale_by_swan(preset="uncentered"), gradients)
      # RMS by mean and by sum differ in the last bits, which ten steps of
      # slope 1.92 and sums of 36 terms amplify: 1.92^10 * 36 * 2^-53.
      assert_equal(actual, expected, rtol=3e-12)


def test_fast_form_equals_the_plain_one():
  """Moving two vectors is what dividing the matrix again and again gives."""
  x = np.random.default_rng(0).normal(size=(2, 20, 12)) ** 3
  with jax.enable_x64(True):
    actual = multi_norm.alternate(
      jnp.asarray(x), ("row_l2", "frobenius", "column_l2"), 3
    )
  for _ in range(3):
    for axes in ((1,), (1, 2), (2,)):
      x = x / np.sqrt(np.mean(x**2, axis=axes, keepdims=True))
  np.testing.assert_allclose(actual, x, rtol=1e-13)


@pytest.mark.parametrize("last", multi_norm.NAMES)
def test_every_projection_leaves_a_root_mean_square_of_one(last):
  updates = moved(optim.scale_by_multi_norm(("row_l2", last), 2), tree())
  for leaf in jax.tree.leaves(updates["layers"]):
    # Sums of up to 240 terms in float32, twice.
    np.testing.assert_allclose(np.mean(leaf**2), 1, rtol=5e-5)


def test_sign_then_l2_starts_from_the_signs():
  with jax.enable_x64(True):
    x = jnp.asarray(np.random.default_rng(1).normal(size=(6, 4)))
    actual = moved(optim.scale_by_multi_norm(("column_l2", "sign"), 1), x)
    np.testing.assert_array_equal(actual, np.sign(x))
    # All rows and columns of a matrix of signs are normalised already.
    again = moved(optim.scale_by_multi_norm(("sign", "row_l2"), 4), x)
    np.testing.assert_allclose(again, np.sign(x), rtol=1e-15)


def singular_values(s, **options):
  """What whitening makes of singular values s, up to one factor."""
  rng = np.random.default_rng(0)
  with jax.enable_x64(True):
    u = np.linalg.qr(rng.normal(size=(len(s), len(s))))[0]
    v = np.linalg.qr(rng.normal(size=(2 * len(s), len(s))))[0]
    x = jnp.asarray((u * s) @ v.T)[None]
    return np.linalg.svd(whitening.whiten(x, **options)[0])[1]


def test_textbook_beta_converges():
  s = np.geomspace(1e-3, 1, 12)
  s = s / np.linalg.norm(s)
  actual = singular_values(s, ns_steps=40, ns_beta=0.5)
  np.testing.assert_allclose(actual, np.sqrt(2 * len(s)) / 1, rtol=1e-6)


def test_beta_08_lands_in_its_band():
  s = np.geomspace(1e-3, 1, 200)
  s = s / np.linalg.norm(s)
  actual = singular_values(s, ns_steps=10, ns_beta=0.8)
  # Before the final scaling the band is [0.5632, 1.6000].
  assert actual.max() / actual.min() < 1.6 / 0.5632 * (1 + 1e-3)
  assert actual.max() / actual.min() > 1.5


def test_any_scale_whitens_alike():
  """Without a norm of 1 at the start, sqrt(3) would be too large already."""
  x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 8, 24)))
  whitened = [whitening.whiten(x * scale) for scale in (1e-30, 1.0, 1e30)]
  for other in whitened[1:]:
    # Entries of about 1; ten steps of slope 1.92 on sums of 24 terms.
    np.testing.assert_allclose(other, whitened[0], rtol=0, atol=1e-3)
  assert not np.any(whitening.whiten(0 * x))


def test_grad_norm_centres_each_output_unit():
  x = np.random.default_rng(0).normal(size=(1, 30, 4)) + 5
  x[0, :, 1] = 0.1  # Constant: nothing is left of it.
  with jax.enable_x64(True):
    y = np.asarray(grad_norm(jnp.asarray(x)))[0]
    y_side = np.asarray(grad_norm(jnp.asarray(x), side="reduction"))[0]
  np.testing.assert_allclose(y.mean(0), 0, atol=1e-13)
  np.testing.assert_allclose((y**2).mean(0), [1, 0, 1, 1], rtol=1e-13)
  np.testing.assert_allclose((y_side**2).mean(1), 1, rtol=1e-13)


def test_options_override_the_preset():
  gradients = tree()
  actual = moved(optim.scale_by_swan(preset="inexact", center=False), gradients)
  expected = moved(optim.scale_by_swan(preset="uncentered"), gradients)
  assert_equal(actual, expected, rtol=0)


@pytest.mark.parametrize(
  ("norms", "message"),
  [
    ((), "at least one"),
    ("row_l2", "allowed: a list"),
    (("row",), "'row'; allowed: 'row_l2'"),
  ],
)
def test_bad_norms(norms, message):
  with pytest.raises(ValueError, match=message):
    optim.scale_by_multi_norm(norms)
