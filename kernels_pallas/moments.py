"""Mean and variance, by the corrected two-pass algorithm.

The mean as summed up, m, is off by the sum's rounding; the mean of x - m says
by how much. Chan, Golub, LeVeque 1983, "Algorithms for computing the sample
variance". So the moments of a constant are that constant and, but for the
square of that rounding, 0, whatever the number of values; data far from 0 keep
their digits.

XLA computes small operands anew in each fusion that reads them, and LLVM may
round a product there or not (as a part of a fused multiply-add). What is
subtracted from x must be the same number everywhere. Hence `divide`.
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array, lax

# Of this size and below, an array of float32 stays in a core's cache.
_CACHED_VALUES = 2**19


def plain_mean(wide: Array, axes: Sequence[int]) -> Array:
  """sum(x) / n over `axes`, kept with size 1; rounded as it is summed up."""
  total = jnp.sum(wide, axis=tuple(axes), keepdims=True)
  return divide(total, math.prod(wide.shape[axis] for axis in axes))


def mean_and_variance(wide: Array, axes: Sequence[int]) -> tuple[Array, Array]:
  """mean(x) and the biased variance over `axes`, kept with size 1.

  Args:
    wide: float32 or float64.
    axes: the reduced axes.
  """
  first, rest, variance = parts(wide, axes)
  return first + rest, variance


def parts(wide: Array, axes: Sequence[int]) -> tuple[Array, Array, Array]:
  """The mean as summed up, the true one less it, and the biased variance."""
  first = plain_mean(wide, axes)
  again = first
  if wide.size > _CACHED_VALUES:
    # The same number under another name: what the sums of x - m and of its
    # square have in common would be written, and does not stay in the cache.
    again = lax.optimization_barrier(first)
  # It is there against roundings: the derivative is that of the sum.
  rest = lax.stop_gradient(plain_mean(wide - again, axes))
  square = plain_mean(jnp.square(wide - first), axes)
  return first, rest, about_the_mean(square, rest)


def about_the_mean(square: Array, rest: Array) -> Array:
  """mean((x - m)^2) moved from m to the true mean, m + rest.

  An overflowed square stays infinite, where rest^2 may be infinite as well.
  """
  moved = jnp.maximum(square - jnp.square(rest), 0)
  return jnp.where(square < jnp.inf, moved, square)


def divide(total: Array, count: int) -> Array:
  """Divides by a count, which XLA shall not turn into a product.

  A product may then be contracted with the subtraction that follows.
  """
  return total / lax.optimization_barrier(jnp.asarray(count, total.dtype))
