"""The statistics of norms: the one place where they are computed.

Two passes, mean first, so that the error does not grow with mean/std as that
of E[x^2] - E[x]^2 does; that other way is here under its name, to be compared
with. Accumulation is in float32, or in float64 for float64 input. Every result
keeps the reduced axes, with size 1.

Range. The sum of n squares must not overflow: |x| < 1.8e19 / sqrt(n) in float32
and bfloat16, the root of the largest float32 over n; all of float16 is within.
Beyond it the mean square or variance is infinite, and what norms divide by it
is 0: y is the offset, and the gradients of x and of the gain are 0. Nothing of
that is NaN, so a network that is lost reads as a finite loss and a gradient of
exactly 0. Running statistics stay as they are (`running.advance`); PowerNorm's
takes in the zeros, and Unified Normalization divides by the window that it has,
so that its y is large. NaN comes where infinities meet: y of `evonorm_b1` and
of `adain` with a content weight, the gradients of `v` in `evonorm_s0` and of
`var_weight` in `switchable_norm`. Small x have no such limit: where the mean
square is far below eps, x is divided by sqrt(eps).
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from kernels_pallas import blocks
from kernels_pallas import moments as kernel
from normjax import errors
from normjax.types import Array


def promote(x: Array) -> Array:
  """Casts x to the dtype of its statistics: float32, or float64 as it is.

  Raises:
    TypeError: x is not floating.
  """
  if not jnp.issubdtype(x.dtype, jnp.floating):
    raise TypeError(f"norms need a floating x; got dtype {x.dtype}.")
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def broadcast_mask(mask: Array, x: Array) -> Array:
  """A mask of leading axes of x, as booleans that broadcast against x.

  Args:
    mask: true (or nonzero) where x is real; its shape is that of the first
      axes of x, at most all but the last: (b,) or (b, t) for (b, t, d).
    x: the masked array.

  Raises:
    UserError: the shapes do not fit.
  """
  if mask.ndim >= x.ndim or mask.shape != x.shape[: mask.ndim]:
    raise errors.UserError(
      f"a mask covers leading axes of x, up to {x.shape[:-1]};"
      f" got a mask of shape {mask.shape} for x of shape {x.shape}."
    )
  return mask.astype(bool).reshape(mask.shape + (1,) * (x.ndim - mask.ndim))


def split_groups(x: Array, num_groups: int) -> Array:
  """(…, c) to (…, num_groups, c / num_groups): neighbouring channels."""
  return x.reshape(*x.shape[:-1], num_groups, x.shape[-1] // num_groups)


def count(x: Array, axes: Sequence[int], mask: Array | None = None) -> Array:
  """How many values each statistic over `axes` has, in x's statistics dtype.

  Args:
    x: any array.
    axes: the reduced axes.
    mask: from `broadcast_mask`.
  """
  dtype = jnp.promote_types(x.dtype, jnp.float32)
  if mask is None:
    return jnp.asarray(math.prod(x.shape[a] for a in axes), dtype)
  repeats = math.prod(x.shape[a] for a in axes if mask.shape[a] == 1)
  kept = jnp.sum(mask, axis=tuple(axes), keepdims=True, dtype=jnp.int32)
  return kept.astype(dtype) * repeats


def mean(x: Array, axes: Sequence[int], mask: Array | None = None) -> Array:
  """sum(x) / n over `axes`, of the masked-in values (0 where there are none).

  Args:
    x: any floating array.
    axes: the reduced axes, kept with size 1.
    mask: from `broadcast_mask`. What it hides may be anything, NaN included.
  """
  x = promote(x)
  if mask is None:
    return jnp.mean(x, axis=tuple(axes), keepdims=True)
  total = jnp.sum(jnp.where(mask, x, 0), axis=tuple(axes), keepdims=True)
  return total / jnp.maximum(count(x, axes, mask), 1)


def mean_square(
  x: Array, axes: Sequence[int], mask: Array | None = None
) -> Array:
  """mean(x^2) over `axes`; see `mean`."""
  return mean(jnp.square(promote(x)), axes, mask)


def mean_and_variance(
  x: Array, axes: Sequence[int], mask: Array | None = None
) -> tuple[Array, Array]:
  """mean(x) and the biased variance mean((x - mean)^2); see `mean`.

  A constant has exactly itself as its mean: see `kernels_pallas.moments`.
  """
  x = promote(x)
  if mask is None:
    return kernel.mean_and_variance(x, axes)
  first = mean(x, axes, mask)
  centered = x - first
  rest = lax.stop_gradient(mean(centered, axes, mask))
  square = mean_square(centered, axes, mask)
  return first + rest, kernel.about_the_mean(square, rest)


def known(function: Callable[[Array], Any], x: Array, value: Any) -> Any:
  """The value, which is that of `function(x)`, with that one's derivative.

  For the forward pass of a norm whose gradient is written out: there the
  statistics come with a stopped gradient, and a derivative of that gradient
  would take them for constants. The first derivative costs nothing.

  Args:
    function: of x; no argument of a transformation may be hidden in it.
    x: what the value was computed of.
    value: of any structure.
  """
  return _known(function, x, value)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _known(function, x, value):
  del function, x
  return value


@_known.defjvp
def _known_jvp(function, primals, tangents):
  x, value = primals
  return value, jax.jvp(function, (x,), tangents[:1])[1]


class Parts(NamedTuple):
  """Moments of the parts of an array, of equal sizes."""

  mean: Array
  # The true mean less the rounded one.
  remainder: Array
  variance: Array


def of_images(x: Array) -> Parts:
  """Moments of each channel of each image, (b, 1, 1, c).

  Some images at a time, which are read from memory once.

  Args:
    x: (b, y, x, c), float32 or float64.
  """
  return blocks.by_image(lambda x: Parts(*kernel.parts(x, (1, 2))), x)


@jax.custom_vjp
def image_moments(x: Array) -> tuple[Array, Array]:
  """Mean and variance of each channel of each image, (b, 1, 1, c).

  The first derivative is in reverse mode. Nothing of the size of x is written
  but dx.

  Args:
    x: (b, y, x, c), float32 or float64.
  """
  parts = of_images(x)
  return parts.mean + parts.remainder, parts.variance


def _image_moments_forward(x):
  parts = of_images(x)
  mean = parts.mean + parts.remainder
  return (mean, parts.variance), (x, mean)


def _image_moments_backward(residuals, gradients):
  x, mean = residuals
  dmean, dvariance = gradients
  size = math.prod(x.shape[1:3])
  return ((dmean / size) + (2 * dvariance / size) * (x - mean),)


image_moments.defvjp(_image_moments_forward, _image_moments_backward)


def pool(
  parts: Parts, average: Callable[[Array], Array]
) -> tuple[Array, Array]:
  """Mean and variance of what the parts make up.

      var = mean(var_part + (mean_part - mean)^2)

  The rounding of a part's large mean would count in full; hence its remainder.

  Args:
    parts: of an array.
    average: over the parts that make up one; its result broadcasts to them.
  """
  # Once: what it is off by must be the same wherever it is subtracted.
  first = lax.optimization_barrier(average(parts.mean))
  offset = parts.mean - first + parts.remainder
  shift = average(offset)
  return first + shift, average(parts.variance + jnp.square(offset - shift))


def finite_or(value: Array, otherwise: Array) -> Array:
  """The value where it is finite, else what `otherwise` holds there."""
  return jnp.where(jnp.isfinite(value), value, otherwise)


def one_pass_mean_and_variance(
  x: Array, axes: Sequence[int], mask: Array | None = None
) -> tuple[Array, Array]:
  """mean(x) and max(0, mean(x^2) - mean(x)^2), from one reading of x.

  The difference cancels: with u the unit roundoff, the variance is off by
  about u mean(x)^2. Flax's `use_fast_variance` computes it so.
  """
  center = mean(x, axes, mask)
  variance = mean_square(x, axes, mask) - jnp.square(center)
  return center, jnp.maximum(variance, 0)


MEAN_AND_VARIANCE = {
  "two_pass": mean_and_variance,
  "one_pass": one_pass_mean_and_variance,
}


def root(x: Array) -> Array:
  """sqrt(x) with the derivative 0 at 0, where autodiff makes inf * 0 of it.

  What is below the least normal number counts as 0.
  """
  normal = x >= jnp.finfo(x.dtype).tiny
  return jnp.where(normal, jnp.sqrt(jnp.where(normal, x, 1)), 0)


# 1 / root mean square by where eps stands.
RECIPROCAL_ROOT = {
  "inside": lambda square, eps: lax.rsqrt(square + eps),
  "outside": lambda square, eps: 1 / (root(square) + eps),
}


def reciprocal_length(x: Array, eps: float = 0.0) -> Array:
  """1 / sqrt(sum(x^2) + eps) over the last axis; 0 where that divides by 0.

  So a zero vector over its length is zero, and so is its gradient.
  """
  square = jnp.sum(jnp.square(promote(x)), axis=-1, keepdims=True)
  length = root(square + eps)
  # By division: the derivative of rsqrt, square^(-3/2), overflows early.
  return jnp.where(length > 0, 1 / jnp.where(length > 0, length, 1), 0)
