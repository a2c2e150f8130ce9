"""Dropout as a function of an explicit key: modules hold no random state."""

import jax
import jax.numpy as jnp

from normjax.types import Array


def dropout(x: Array, rate: float, key: Array | None) -> Array:
  """Zeroes each element with probability `rate` and rescales the rest.

  Args:
    x: any shape.
    rate: in [0, 1).
    key: None (or a rate of 0) leaves x as it is: evaluation.
  """
  if key is None or rate == 0.0:
    return x
  keep = jax.random.bernoulli(key, 1.0 - rate, x.shape)
  return jnp.where(keep, x / (1.0 - rate), jnp.zeros_like(x))
