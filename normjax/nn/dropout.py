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


def drop_examples(x: Array, rate: float, key: Array | None) -> Array:
  """Zeroes whole examples with probability `rate`; the rest stays as it is.

  Stochastic depth (arXiv:1603.09382) without its factor in evaluation, as in
  deepmind-research nfnets/base.py.

  Args:
    x: (b, …).
    rate: in [0, 1).
    key: None (or a rate of 0) leaves x as it is: evaluation.
  """
  if key is None or rate == 0.0:
    return x
  shape = (x.shape[0],) + (1,) * (x.ndim - 1)
  keep = jax.random.bernoulli(key, 1.0 - rate, shape)
  return jnp.where(keep, x, jnp.zeros_like(x))
