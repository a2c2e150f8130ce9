"""Dropout as a function of an explicit key: modules hold no random state."""

import math
import zlib
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


def drop_examples(
  x: Array,
  rate: float | Array,
  key: Array | None,
  *,
  rescaled: bool = False,
) -> Array:
  """Zeroes whole examples with probability `rate`.

  Stochastic depth (arXiv:1603.09382) of a branch. Instead of its factor in
  evaluation, what is kept stays as it is, as in deepmind-research
  nfnets/base.py, or is divided by 1 - rate, timm's drop path.

  Args:
    x: (b, …).
    rate: in [0, 1); may be traced, as in a scan over layers.
    key: None (or a rate of 0) leaves x as it is: evaluation.
    rescaled: whether what is kept is divided by 1 - rate.
  """
  if key is None or (isinstance(rate, float | int) and rate == 0):
    return x
  shape = (x.shape[0],) + (1,) * (x.ndim - 1)
  keep = jax.random.bernoulli(key, 1.0 - rate, shape)
  kept = (x / (1.0 - rate)).astype(x.dtype) if rescaled else x
  return jnp.where(keep, kept, jnp.zeros_like(x))


def drop_path_rates(owner: str, rate: float, num_blocks: int) -> list[float]:
  """The rate of each block, from 0 to `rate`: rate i / (n - 1), timm's rule.

  arXiv:1603.09382 itself has rate i / n, i from 1.

  Args:
    owner: the model, for messages.
    rate: of the last block, its option `drop_path_rate`.
    num_blocks: n.

  Raises:
    UserError: a rate out of range, or one above 0 of a single block, which the
      rule never drops.
  """
  validate.rates(owner, drop_path_rate=rate)
  if rate and num_blocks == 1:
    validate.refuse(
      owner, "drop_path_rate", rate, "0 with a single block, which always stays"
    )
  return [rate * i / max(num_blocks - 1, 1) for i in range(num_blocks)]


def drop_path_keys(key: Array | None, count: int) -> Keys:
  """A key per block or branch for its drop path; Nones where there is none.

  A stream of its own: `key` and what `split` makes of it serve dropout.
  """
  if key is None:
    return [None] * count
  own = jax.random.fold_in(key, zlib.crc32(b"drop_path"))
  return list(jax.random.split(own, count))


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
