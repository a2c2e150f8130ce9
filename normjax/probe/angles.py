"""Angles between the streams of different depths."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from normjax.probe.outliers import tokens
from normjax.types import Array


def last_tokens(x: Array, real: Array | None = None) -> Array:
  """(b, d): the stream at the last real token of each example."""
  x_btd = tokens(x)
  if real is None:
    return x_btd[:, -1]
  positions = jnp.arange(x_btd.shape[1])
  last_b = jnp.max(jnp.where(real, positions, 0), axis=1)
  return jnp.take_along_axis(x_btd, last_b[:, None, None], axis=1)[:, 0]


@jax.jit
def distance(x: Array, y: Array) -> Array:
  """The angle between vectors in units of pi, the mean over all of them.

      d(x, y) = arccos(<x, y> / (|x| |y|)) / pi

  The angular distance of arXiv:2403.17887: 0 of one direction, 1/2 of
  orthogonal ones, 1 of opposite ones. Computed as 2 arctan2(|u - v|, |u + v|)
  of unit vectors u and v, which near 0 loses nothing; NaN of a vector of
  zeros.

  Args:
    x: (..., d).
    y: of the same shape.
  """
  u = x / jnp.linalg.norm(x, axis=-1, keepdims=True)
  v = y / jnp.linalg.norm(y, axis=-1, keepdims=True)
  half = jnp.arctan2(
    jnp.linalg.norm(u - v, axis=-1), jnp.linalg.norm(u + v, axis=-1)
  )
  return jnp.mean(2 * half / jnp.pi)


def distances(vectors: Sequence[Array]) -> list[list[float | None]]:
  """`distance` between each depth and each later one.

  Entry [l][n - 1] is that of the streams before and after n blocks, from block
  l on, as in figure 4 of arXiv:2403.17887; None where their shapes differ.

  Args:
    vectors: by depth, (..., d).
  """
  return [
    [
      float(distance(x, y)) if x.shape == y.shape else None
      for y in vectors[depth + 1 :]
    ]
    for depth, x in enumerate(vectors[:-1])
  ]
