"""Means and variances, with and without a mask."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from normjax import errors
from normjax.norms import moments

X = np.random.default_rng(0).normal(2, 3, size=(4, 5, 6)).astype(np.float32)
MASK = np.random.default_rng(1).random((4, 5)) > 0.4


@pytest.mark.parametrize("axes", [(-1,), (0, 1), (1, 2), (0, 1, 2)])
def test_against_numpy(axes):
  exact = X.astype(np.float64)
  mean, variance = moments.mean_and_variance(jnp.asarray(X), axes)
  square = moments.mean_square(jnp.asarray(X), axes)
  # A sum of n <= 120 terms: n u of the mean square, u = 2^-24.
  bound = 120 * 2**-24 * np.square(exact).max()
  close = functools.partial(np.testing.assert_allclose, rtol=0, atol=bound)
  close(mean, exact.mean(axes, keepdims=True))
  close(variance, exact.var(axes, keepdims=True))
  close(square, np.square(exact).mean(axes, keepdims=True))
  assert int(moments.count(jnp.asarray(X), axes)) == X.size // variance.size


def test_masked_values_do_not_count_even_when_they_are_nan():
  x = jnp.where(MASK[..., None], X, jnp.nan)
  mask = moments.broadcast_mask(jnp.asarray(MASK), x)
  mean, variance = moments.mean_and_variance(x, (0, 1), mask)
  real = X[MASK].astype(np.float64)
  bound = 20 * 2**-24 * np.square(real).max()
  close = functools.partial(np.testing.assert_allclose, rtol=0, atol=bound)
  close(mean[0, 0], real.mean(0))
  close(variance[0, 0], real.var(0))
  assert int(moments.count(x, (0, 1), mask).item()) == len(real)


def test_count_over_axes_that_the_mask_lacks():
  x = jnp.asarray(X)
  mask = moments.broadcast_mask(jnp.asarray(MASK[:, 0]), x)
  count = moments.count(x, (1, 2), mask)
  np.testing.assert_array_equal(count[:, 0, 0], 30 * MASK[:, 0])


def test_nothing_left_is_zero():
  x = jnp.asarray(X)
  mask = moments.broadcast_mask(jnp.zeros(MASK.shape), x)
  for value in moments.mean_and_variance(x, (0, 1), mask):
    np.testing.assert_array_equal(value, np.zeros((1, 1, 6)))


@pytest.mark.parametrize("shape", [(3,), (4, 6), (4, 5, 6), (5,)])
def test_a_mask_that_does_not_fit(shape):
  with pytest.raises(errors.UserError, match="leading axes"):
    moments.broadcast_mask(jnp.ones(shape), jnp.asarray(X))


def test_integers_are_refused():
  with pytest.raises(TypeError, match="int32"):
    moments.mean(jnp.arange(3), (0,))
