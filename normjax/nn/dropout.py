"""Dropout as a function of an explicit key: modules hold no random state."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from normjax import validate
from normjax.types import Array

Keys = list[Array | None]
Dropout = Callable[[Array, float, Array | None], Array]

# Of SELU, arXiv:1706.02515, equation 2 and section "fixed point (0, 1)", with
# the digits of the official code.
SELU_SCALE = 1.0507009873554804934193349852946
SELU_ALPHA = 1.6732632423543772848170429916717


def split(key: Array | None, count: int, *rates: float) -> Keys:
  """As many keys, of a module and what it holds; each reads its own mode.

  Args:
    key: of the call.
    count: how many.
    *rates: of all that may be drawn with them.

  Returns:
    Nones where there is no key, or no rate above 0.
  """
  if key is None or not any(rates):
    return [None] * count
  return list(jax.random.split(key, count))


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


def alpha_dropout(
  x: Array,
  rate: float,
  key: Array | None,
  *,
  mean: float = 0.0,
  variance: float = 1.0,
) -> Array:
  """Drops to SELU's lower bound, and keeps mean and variance.

      y = a (x d + alpha' (1 - d)) + b,  d ~ Bernoulli(q),  q = 1 - rate
      alpha' = -SELU_SCALE SELU_ALPHA = -1.7580993408473766
      a = sqrt(variance / (q ((1 - q) (alpha' - mean)^2 + variance)))
      b = mean - a (q mean + (1 - q) alpha')

  arXiv:1706.02515, section "New Dropout Technique": for x of this mean and
  variance y has the same, over x and d. The affine map is in float32 at least,
  and y in the dtype of x.

  Args:
    x: any shape.
    rate: in [0, 1); the paper suggests 0.05 or 0.1.
    key: None (or a rate of 0) leaves x as it is: evaluation.
    mean: of x, the fixed point's: 0.
    variance: of x, the fixed point's: 1.
  """
  if key is None or rate == 0.0:
    return x
  a, b, dropped = alpha_dropout_constants(rate, mean=mean, variance=variance)
  keep = jax.random.bernoulli(key, 1.0 - rate, x.shape)
  wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  y = a * jnp.where(keep, wide, dropped) + b
  return y.astype(x.dtype)


def alpha_dropout_constants(
  rate: float, *, mean: float = 0.0, variance: float = 1.0
) -> tuple[float, float, float]:
  """(a, b, alpha') of `alpha_dropout`."""
  q = 1.0 - rate
  dropped = -SELU_SCALE * SELU_ALPHA
  spread = (1.0 - q) * (dropped - mean) ** 2 + variance
  a = math.sqrt(variance / (q * spread))
  return a, mean - a * (q * mean + (1.0 - q) * dropped), dropped


TABLE: dict[str, Dropout] = {"standard": dropout, "alpha": alpha_dropout}


def resolve(name: str) -> Dropout:
  """The dropout of that name.

  Raises:
    UserError: there is none.
  """
  return validate.choose("dropout", "dropout", name, TABLE)
