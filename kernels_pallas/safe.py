"""Divisions and roots that stay finite on zeros."""

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike


def divide(x: Array, y: ArrayLike) -> Array:
  """Divides x by y; 0 where y is 0."""
  zero = jnp.equal(y, 0)
  return jnp.where(zero, 0, x / jnp.where(zero, 1, y))


def rsqrt(x: Array) -> Array:
  """1 / sqrt(x), and 0 where x is 0."""
  zero = x == 0
  return jnp.where(zero, 0, lax.rsqrt(jnp.where(zero, 1, x)))
