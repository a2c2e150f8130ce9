"""What the Mosaic kernels compute of rows: of one (d,), or of a block (r, d).

They differ in how a row is summed up, which the caller says: `total` is from
float32 values to the sum of each row, in a shape that broadcasts against them.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array, lax

Total = Callable[[Array], Array]


def center_and_reciprocal(
  x: Array, eps: float, total: Total
) -> tuple[Array, Array]:
  """mean(x) and 1 / sqrt(var(x) + eps) of each row.

  By the corrected two-pass algorithm of `kernels_pallas.moments`, whose
  barriers no kernel needs: here a number is computed once.
  """
  width = x.shape[-1]
  first = total(x) / width
  centered = x - first
  rest = total(centered) / width
  square = total(centered * centered) / width
  moved = jnp.maximum(square - rest * rest, 0.0)
  # An overflowed square stays infinite, where rest^2 may be infinite as well.
  variance = jnp.where(square < jnp.inf, moved, square)
  return first + rest, lax.rsqrt(variance + eps)


def gradient_means(
  normalized: Array, g: Array, total: Total
) -> tuple[Array, Array]:
  """mean(g) and mean(g n) of each row, for `gradient`."""
  width = g.shape[-1]
  return total(g) / width, total(g * normalized) / width


def gradient(
  normalized: Array, g: Array, r: Array, means: tuple[Array, Array]
) -> Array:
  """The gradient of x.

      dx = r (g - mean(g) - n mean(g n)), n = (x - center) r, g = dy scale

  Means are those of the row.
  """
  mean, along = means
  return (g - mean - normalized * along) * r
