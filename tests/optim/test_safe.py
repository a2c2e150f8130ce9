"""Divisions and roots at zero and at extreme scales."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax.optim import safe


def test_divide_and_rsqrt_at_zero():
  x = jnp.array([0.0, 1.0, 4.0])
  np.testing.assert_array_equal(safe.divide(jnp.ones(3), x), [0, 1, 0.25])
  np.testing.assert_array_equal(safe.rsqrt(x), [0, 1, 0.5])


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_normalize(scale):
  x = jnp.array([3.0, 4.0]) * jnp.float32(scale)
  np.testing.assert_allclose(
    safe.normalize(x, (0,), 0.0), [0.6, 0.8], rtol=4e-7
  )


def test_normalize_adds_eps_to_the_norm():
  x = jnp.array([3.0, 4.0])
  np.testing.assert_allclose(
    safe.normalize(x, (0,), 5.0), [0.3, 0.4], rtol=4e-7
  )
  assert not safe.normalize(jnp.zeros(2), (0,), 0.0).any()


@pytest.mark.parametrize("decay", [0.0, 0.9, 0.999])
def test_bias_correction(decay):
  for count in (1, 2, 1000, 10**6):
    exact = 1 - decay**count
    actual = safe.bias_correction(decay, jnp.int32(count), jnp.float32)
    # The exponent, its product with count and expm1: a few roundings.
    np.testing.assert_allclose(actual, exact, rtol=4 * 2.0**-24)
    traced = jax.jit(safe.bias_correction, static_argnums=2)(
      jnp.float32(decay), jnp.int32(count), jnp.float32
    )
    # As an array, decay is itself rounded: 3e-8 / (1 - decay).
    bound = 2.0**-24 * (4 + 1 / (1 - decay))
    np.testing.assert_allclose(traced, exact, rtol=bound)
