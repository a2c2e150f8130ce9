"""Groups of neighbouring channels of one image: statistics, normalization."""

import functools
from collections.abc import Callable, Mapping
from typing import cast

import jax
import jax.numpy as jnp
from jax import lax

from kernels_pallas import blocks
from kernels_pallas import moments as kernel
from normjax.norms import affine, moments
from normjax.types import Array


def as_images(x: Array) -> Array:
  """(b, t, c) as images of one column, (b, t, 1, c); images as they are."""
  return x if x.ndim == 4 else x[:, :, None]


def mean_and_variance(
  x: Array, num_groups: int, mask: Array | None = None
) -> tuple[Array, Array]:
  """Those of each group of each image, at each of its channels (b, 1, 1, c).

  By those of its channels: reductions over neighbouring channels are slow.

  Args:
    x: (b, y, x, c), float32 or float64.
    num_groups: divides the channels.
    mask: true where x is real, of leading axes of x; 0 and 0 where nothing is.
      Without it, there is no gradient.
  """
  if mask is not None:
    grouped = moments.split_groups(x, num_groups)
    mask = moments.broadcast_mask(mask, grouped)
    of_groups = moments.mean_and_variance(grouped, (1, 2, 4), mask)
    mean, variance = (_at_channels(moment, x) for moment in of_groups)
    return mean, variance
  parts = moments.of_images(x)
  if num_groups == x.shape[-1]:
    return parts.mean + parts.remainder, parts.variance
  size = x.shape[-1] // num_groups
  return moments.pool(
    parts, lambda a: kernel.divide(over_groups(jnp.sum, a, num_groups), size)
  )


def over_groups(
  function: Callable[..., Array], values: Array, num_groups: int
) -> Array:
  """A reduction over each group, at each of its channels."""
  grouped = moments.split_groups(values, num_groups)
  reduced = function(grouped, axis=-1, keepdims=True)
  return jnp.broadcast_to(reduced, grouped.shape).reshape(values.shape)


def _at_channels(statistic: Array, x: Array) -> Array:
  """A statistic (b, 1, 1, groups, 1) at each channel of x, (b, 1, 1, c)."""
  size = x.shape[-1] // statistic.shape[-2]
  return jnp.repeat(statistic[..., 0], size, axis=-1)


def standardize(
  x: Array,
  params: Mapping[str, Array],
  num_groups: int,
  eps: float,
  mask: Array | None = None,
) -> Array:
  """(x - mean) / sqrt(var + eps) of each group, scaled and shifted.

  Without a mask the first derivative is in reverse mode, and nothing of the
  size of x is written but y and dx.

  Args:
    x: (b, y, x, c), any floating dtype; the result has it, too.
    params: of `affine`.
    num_groups: divides the channels.
    eps: inside the square root.
    mask: true where x is real, of leading axes of x; None for all.
  """
  if mask is not None:
    wide = moments.promote(x)
    mean, variance = mean_and_variance(wide, num_groups, mask)
    normalized = (wide - mean) * lax.rsqrt(variance + eps)
    return affine.apply(normalized, params).astype(x.dtype)
  fixed = moments.promote(lax.stop_gradient(x))
  mean, r = _mean_and_r(num_groups, eps, fixed)
  return cast(Array, _standardize(num_groups, eps, x, params, mean, r))


def _mean_and_r(num_groups: int, eps: float, x: Array) -> tuple[Array, Array]:
  mean, variance = mean_and_variance(moments.promote(x), num_groups)
  return mean, lax.rsqrt(variance + eps)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _standardize(
  num_groups: int,
  eps: float,
  x: Array,
  params: Mapping[str, Array],
  mean: Array,
  r: Array,
) -> Array:
  """(x - mean) r, scaled and shifted; its gradient is that through both too."""
  del num_groups, eps
  return affine.of_standardized(x, params, mean, r)


def _forward(num_groups, eps, x, params, mean, r):
  function = functools.partial(_mean_and_r, num_groups, eps)
  mean, r = moments.known(function, x, (mean, r))
  return affine.of_standardized(x, params, mean, r), (x, params, mean, r)


def _backward(num_groups, eps, residuals, dy):
  """With n = (x - mean) r, d = dy scale, and means over a group:

  dx = r (d - mean(d) - n mean(d n))
  """
  del eps
  x, params, mean, r = blocks.unfused(residuals[0], residuals)
  scale = params.get("scale", jnp.ones(())).astype(r.dtype)

  def sums(x, dy, mean, r):
    wide = moments.promote(dy)
    terms = wide, wide * ((moments.promote(x) - mean) * r)
    return [jnp.sum(term, (1, 2), keepdims=True) for term in terms]

  offset, along = blocks.sums_of_images(sums, x, dy, mean, r)
  size = x.shape[1] * x.shape[2] * (x.shape[3] // num_groups)
  shared = [
    over_groups(jnp.sum, scale * values, num_groups) * (r / size)
    for values in (offset, along)
  ]
  gain, shift, slope = blocks.unfused(x, (scale * r, *shared))
  normalized = (moments.promote(x) - mean) * r
  dx = moments.promote(dy) * gain - shift - normalized * slope
  gradients = {"scale": along, "bias": offset}
  gradients = {
    name: jnp.sum(gradients[name], (0, 1, 2)).astype(params[name].dtype)
    for name in params
  }
  return dx.astype(x.dtype), gradients, None, None


_standardize.defvjp(_forward, _backward)
