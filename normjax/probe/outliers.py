"""Outliers of a stream: variance, kurtosis, largest over median, the largest.

All take streams (b, t, d), or (b, y, x, c), and are computed in float32, or in
float64 for float64. `real`, (b, t), says which tokens count; None: all.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from normjax.norms import moments
from normjax.types import Array

# Of arXiv:2402.17762, section 2.
MASSIVE, OVER_MEDIAN = 100.0, 1000.0


class Profile(NamedTuple):
  """A number of a stream, of all tokens and of each position, (t,)."""

  overall: Array
  by_position: Array


def tokens(x: Array) -> Array:
  """A stream as (b, t, d); pixels are tokens, in rows."""
  return moments.promote(x.reshape(x.shape[0], -1, x.shape[-1]))


def _means(values_btd: Array, real: Array | None) -> tuple[Array, Array]:
  """Means over all real tokens, and over those of each position."""
  weight = jnp.ones(values_btd.shape[:2]) if real is None else real
  weight = weight.astype(values_btd.dtype).reshape(
    *values_btd.shape[:2], *[1] * (values_btd.ndim - 2)
  )
  sums, counts = jnp.sum(values_btd * weight, 0), jnp.sum(weight, 0)
  return jnp.sum(sums, 0) / jnp.sum(counts, 0), sums / counts


@jax.jit
def variance(x: Array, real: Array | None = None) -> Profile:
  """The variance over the features of a token, the mean over tokens.

  It grows with depth in Pre-LN transformers, by which deep blocks become
  nearly the identity: arXiv:2502.05795.
  """
  return Profile(*_means(jnp.var(tokens(x), -1), real))


@jax.jit
def kurtosis(x: Array, real: Array | None = None) -> Profile:
  """How much of a stream is in few features: 1 of none, d of one.

      mean_j(s_j^4) / mean_j(s_j^2)^2,  s_j^2 = mean over tokens of x_j^2

  arXiv:2405.19279, "kurtosis over neuron activation norms"; the formula is
  second-hand. NaN of a stream of zeros.
  """
  overall_d, by_position_td = _means(jnp.square(tokens(x)), real)

  def of(square: Array) -> Array:
    # Divided first, so that no square overflows.
    square = square / jnp.mean(square, -1, keepdims=True)
    return jnp.mean(jnp.square(square), -1)

  return Profile(of(overall_d), of(by_position_td))


@jax.jit
def max_over_median(x: Array, real: Array | None = None) -> Profile:
  """The largest of a token's magnitudes over their median, mean over tokens.

  arXiv:2405.19279's max-median ratio; the formula is second-hand. Infinite
  where half of a token's features are 0, as after a ReLU.
  """
  magnitude = jnp.abs(tokens(x))
  ratio = jnp.max(magnitude, -1) / jnp.median(magnitude, -1)
  if real is not None:
    ratio = jnp.where(real, ratio, 0)
  return Profile(*_means(ratio, real))


def massive(
  x: Array, real: Array | None = None, count: int = 3
) -> dict[str, Any]:
  """The largest magnitudes of a stream, and where they are.

  A massive activation is above 100 in magnitude, and at least 1000 times the
  median magnitude of its stream: arXiv:2402.17762, section 2.

  Args:
    x: the stream.
    real: which tokens count.
    count: of the largest.

  Returns:
    `median`, of all magnitudes; `num_massive`; `largest`: mappings with
    example, position, dimension and value, the largest magnitude first.
  """
  median, num_massive, places, values = jax.device_get(_massive(x, real, count))
  return {
    "median": float(median),
    "num_massive": int(num_massive),
    "largest": [
      {
        "example": int(example),
        "position": int(position),
        "dimension": int(dimension),
        "value": float(value),
      }
      for example, position, dimension, value in zip(
        *places, values, strict=True
      )
    ],
  }


@functools.partial(jax.jit, static_argnums=2)
def _massive(x: Array, real: Array | None, count: int):
  """Median, number of massive ones, places and values of the largest."""
  x_btd = tokens(x)
  magnitude = jnp.abs(x_btd)
  counted = jnp.ones(magnitude.shape[:2], bool) if real is None else real
  median = jnp.nanmedian(jnp.where(counted[..., None], magnitude, jnp.nan))
  magnitude = jnp.where(counted[..., None], magnitude, -1)
  is_massive = (magnitude > MASSIVE) & (magnitude >= OVER_MEDIAN * median)
  _, found = jax.lax.top_k(magnitude.ravel(), min(count, magnitude.size))
  places = jnp.unravel_index(found, magnitude.shape)
  return median, jnp.sum(is_massive), places, x_btd.ravel()[found]
