"""Divisions and roots that stay finite on zeros and extreme scales."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from kernels_pallas.safe import divide, rsqrt
from normjax.types import Array

__all__ = [
  "bias_correction",
  "bounded",
  "clip_for_square",
  "compute_dtype",
  "divide",
  "largest",
  "norm",
  "normalize",
  "promote",
  "rsqrt",
  "square_limit",
]


def compute_dtype(dtype: DTypeLike) -> jnp.dtype:
  """The dtype of the arithmetic: float32, or float64 for float64."""
  return jnp.promote_types(dtype, jnp.float32)


def promote(x: Array) -> Array:
  """Casts x to the dtype of the arithmetic."""
  return x.astype(compute_dtype(x.dtype))


def largest(x: Array, axes: Sequence[int]) -> Array:
  """The maximum of |x| over the axes, which are kept with size 1."""
  initial = None if x.size else 0
  return jnp.max(jnp.abs(x), axis=tuple(axes), keepdims=True, initial=initial)


def norm(x: Array, axes: Sequence[int]) -> Array:
  """||x||_2 over the axes, kept with size 1, without squaring large x."""
  peak = largest(x, axes)
  x = divide(x, peak)
  return peak * jnp.sqrt(jnp.sum(x * x, axis=tuple(axes), keepdims=True))


def normalize(x: Array, axes: Sequence[int], eps: ArrayLike) -> Array:
  """Divides x by ||x||_2 + eps over the axes, for any finite x.

  The square of x would overflow beyond 1e19 and vanish below 1e-19, so that
  x is divided by its largest entry first.
  """
  peak = largest(x, axes)
  x = divide(x, peak)
  norm = jnp.sqrt(jnp.sum(x * x, axis=tuple(axes), keepdims=True))
  return divide(x, norm + divide(jnp.asarray(eps, x.dtype), peak))


def square_limit(dtype: DTypeLike) -> float:
  """A size up to which squares, and averages of them, are finite.

  2^63 in float32, whose square is a quarter of the largest number. A quarter,
  because an average that is corrected for its bias is divided by 1 - b^t: in
  float32 that has a relative error of u / (1 - b), which is at most 1/2 unless
  b is 1 there.
  """
  return 2.0 ** (jnp.finfo(dtype).maxexp // 2 - 1)


def clip_for_square(x: Array) -> Array:
  """Cuts finite entries at `square_limit`; infinity and NaN pass.

  What averages g and g^2 takes both from the cut g: if only the square were
  bounded, their ratio would be too large.
  """
  limit = square_limit(x.dtype)
  return jnp.where(jnp.isfinite(x), jnp.clip(x, -limit, limit), x)


def bounded(x: Array, axes: Sequence[int]) -> Array:
  """Scales x down where its squares, or sums of many, would overflow.

  No entry over the axes is then beyond the largest number to the power 0.4:
  3e15 in float32. Smaller x is not touched.
  """
  limit = float(jnp.finfo(x.dtype).max) ** 0.4
  peak = largest(x, axes)
  return jnp.where(peak > limit, x * (limit / peak), x)


def bias_correction(
  decay: ArrayLike, count: ArrayLike, dtype: DTypeLike
) -> Array:
  """1 - decay^count: what a moving average that began at 0 has seen.

  By `expm1`, because 0.999 is already rounded in float32, and 1 - 0.999 then
  has a relative error of 1e-5.

  Args:
    decay: in [0, 1).
    count: number of updates, >= 1, integer.
    dtype: of the result.
  """
  if isinstance(decay, int | float):
    log = math.log(decay) if decay > 0 else -math.inf
  else:
    log = jnp.log(decay)
  return -jnp.expm1(jnp.asarray(count, dtype) * log).astype(dtype)
