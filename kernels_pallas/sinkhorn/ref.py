"""The reference: plain operations on two vectors, X being read only."""

import math

import jax.numpy as jnp
from jax import Array, lax

from kernels_pallas import safe
from kernels_pallas.precision import promote

# What the sums of a side go over: axes of (batch, inputs, outputs).
SIDES = {"output": (1, 2), "reduction": (2, 1)}


def side(total: Array, size: int) -> Array:
  """The scale that makes a root mean square of 1, from a sum of squares."""
  return math.sqrt(size) * safe.rsqrt(total)


def sinkhorn(x_bio: Array, num_iters: int | Array, first: str) -> Array:
  """See `kernels_pallas.sinkhorn.sinkhorn`."""
  x = promote(x_bio)
  initial = None if x.size else 0
  largest = jnp.max(jnp.abs(x), axis=(1, 2), keepdims=True, initial=initial)
  x = safe.divide(x, largest)

  def other_side(other: Array | None, axis: int) -> Array:
    scaled = x if other is None else x * other
    total = jnp.sum(scaled**2, axis=axis, keepdims=True)
    return side(total, x.shape[axis])

  def one_round(other: Array | None) -> tuple[Array, Array]:
    before, after = SIDES[first]
    one = other_side(other, before)
    return one, other_side(one, after)

  if isinstance(num_iters, int):
    scales = one_round(None)
    for _ in range(num_iters - 1):
      scales = one_round(scales[1])
  else:
    last, opposite = SIDES[first][::-1]
    ones = [
      jnp.ones_like(
        x, shape=[1 if n == a else s for n, s in enumerate(x.shape)]
      )
      for a in (opposite, last)
    ]
    scales = lax.fori_loop(
      0, num_iters, lambda _, scales: one_round(scales[1]), tuple(ones)
    )
  one, other = scales
  return (x * one * other).astype(x_bio.dtype)
