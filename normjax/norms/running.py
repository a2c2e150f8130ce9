"""Running statistics of batches: what the norms of batches share."""

import functools
import math
from collections.abc import Mapping
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from kernels_pallas import blocks
from kernels_pallas import moments as kernel
from normjax.norms import affine, base, modes, moments
from normjax.types import Array


def start(
  shape: tuple[int, ...], dtype: DTypeLike, **values: float
) -> dict[str, Array]:
  """First running statistics, one per channel, float32 at least.

  Args:
    shape: the feature shape.
    dtype: of the parameters.
    **values: by name, as in mean=0, var=1.
  """
  wide = jnp.promote_types(dtype, jnp.float32)
  return {
    name: jnp.full(shape[-1:], value, wide) for name, value in values.items()
  }


class Batch(NamedTuple):
  """The statistics of each channel of one batch, in the dtype of x."""

  mean: Array  # (c,)
  variance: Array  # (c,), the biased one.
  size: Array  # (1,), how many values each of them has.

  def kept(self, running_variance: str) -> Array:
    """The variance that enters the running one: "unbiased" or "biased"."""
    if running_variance == "biased":
      return self.variance
    return self.variance * (self.size / jnp.maximum(self.size - 1, 1))


def measure(norm: str, x: Array, mask: Array | None) -> Batch:
  """Mean and variance of each channel over all other axes, two passes.

  Args:
    norm: its name, for errors.
    x: channels-last, float32 or float64.
    mask: true where x is real, of leading axes of x; None for all.

  Raises:
    UserError: one value per channel; a mask that does not fit.
  """
  base.check_batch(norm, x)
  axes = tuple(range(x.ndim - 1))
  if mask is not None:
    mask = moments.broadcast_mask(mask, x)
  mean, variance = moments.mean_and_variance(x, axes, mask)
  count = moments.count(x, axes, mask).reshape(-1)
  return Batch(mean.reshape(-1), variance.reshape(-1), count)


def measure_fixed(norm: str, x: Array) -> Batch:
  """As `measure`, of all of x, without a gradient and in the quickest way."""
  if x.ndim != 4:
    return measure(norm, lax.stop_gradient(x), None)
  base.check_batch(norm, x)
  return measure_images(lax.stop_gradient(x))[0]


def measure_images(x: Array) -> tuple[Batch, moments.Parts]:
  """As `measure`, by the moments of each image, which come along.

  x is read from memory once, where other sums over images follow anyway.

  Args:
    x: (b, y, x, c), float32 or float64, without a gradient.
  """
  images = moments.of_images(x)
  mean, variance = (
    moment.reshape(-1)
    for moment in moments.pool(images, lambda a: kernel.plain_mean(a, (0,)))
  )
  size = jnp.full((1,), math.prod(x.shape[:-1]), x.dtype)
  return Batch(mean, variance, size), images


def moments_of(
  norm: str,
  x: Array,
  stats: Mapping[str, Array],
  mode: modes.Mode,
  mask: Array | None,
  momentum: float,
  running_variance: str,
  names: tuple[str, str] = ("mean", "var"),
) -> tuple[tuple[Array, Array], dict[str, Array]]:
  """What a mode normalises x by, with a gradient, and the new statistics.

  Args:
    norm: its name, for errors.
    x: channels-last, float32 or float64.
    stats: the running statistics; others than `names` stay.
    mode: which statistics are asked for.
    mask: as for `measure`.
    momentum: weighs the old running value.
    running_variance: "unbiased" or "biased".
    names: of the mean and the variance among `stats`.

  Returns:
    (mean, variance), (c,) each, and `stats` after a step.
  """
  stats = dict(stats)
  used = {name: stats[name] for name in names}
  if mode.statistics == "running":
    mean, variance = (used[name].astype(x.dtype) for name in names)
    return (mean, variance), stats
  batch = measure(norm, x, mask)
  kept = (batch.mean, batch.kept(running_variance))
  new = dict(zip(names, kept, strict=True))
  if mode.statistics == "blended":
    used = blend(used, new, mode, batch.size)
    mean, variance = (used[name].astype(x.dtype) for name in names)
    return (mean, variance), stats
  stats |= advance(used, new, momentum, batch.size)
  return (batch.mean, batch.variance), stats


def standardize(
  x: Array, params: Mapping[str, Array], batch: Batch, eps: float
) -> Array:
  """(x - mean) / sqrt(var + eps) of a batch, scaled and shifted.

  The first derivative is in reverse mode, through the statistics of x, too.
  Nothing of the size of x is written but y and dx.

  Args:
    x: channels-last, all of it real, any floating dtype; y has it, too.
    params: of `affine`, both of them.
    batch: the statistics of x, with a stopped gradient.
    eps: inside the square root.
  """
  r = lax.rsqrt(batch.variance + eps)
  return cast(Array, _standardize(eps, x, params, batch.mean, r))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _standardize(
  eps: float, x: Array, params: Mapping[str, Array], mean: Array, r: Array
) -> Array:
  """(x - mean) r, scaled and shifted; its gradient is that through both too."""
  del eps
  return affine.of_standardized(x, params, mean, r)


def _mean_and_r(eps: float, x: Array) -> tuple[Array, Array]:
  """What `standardize` is given, as a function of x."""
  x = moments.promote(x)
  batch = measure_images(x)[0] if x.ndim == 4 else measure("", x, None)
  return batch.mean, lax.rsqrt(batch.variance + eps)


def _forward(eps, x, params, mean, r):
  function = functools.partial(_mean_and_r, eps)
  mean, r = moments.known(function, x, (mean, r))
  return affine.of_standardized(x, params, mean, r), (x, params, mean, r)


def _backward(eps, residuals, dy):
  """With n = (x - mean) r: dx = scale r (dy - mean(dy) - n mean(dy n))."""
  del eps
  x, params, mean, r = blocks.unfused(residuals[0], residuals)
  axes = tuple(range(x.ndim - 1))
  wide = moments.promote(dy)
  normalized = (moments.promote(x) - mean) * r
  sums = jnp.sum(wide * normalized, axes), jnp.sum(wide, axes)
  dscale, dbias = blocks.unfused(x, sums)
  count = math.prod(x.shape[:-1])
  centered = wide - dbias / count - normalized * (dscale / count)
  dx = params["scale"].astype(r.dtype) * r * centered
  gradients = {"scale": dscale, "bias": dbias}
  return (
    dx.astype(x.dtype),
    {name: gradients[name].astype(params[name].dtype) for name in params},
    None,
    None,
  )


_standardize.defvjp(_forward, _backward)


def mean_of_ghosts(
  batches: Mapping[str, Array], count: Array
) -> dict[str, Array]:
  """The mean of statistics (ghosts, c) over those of two real values or more.

  Args:
    batches: by name.
    count: (ghosts, 1).
  """
  real = count > 1
  ghosts = jnp.maximum(jnp.sum(real), 1)
  return {
    name: jnp.sum(jnp.where(real, values, 0), axis=0) / ghosts
    for name, values in batches.items()
  }


def advance(
  running: Mapping[str, Array],
  batch: Mapping[str, Array],
  momentum: float | Array,
  count: Array,
) -> dict[str, Array]:
  """The running statistics, by name: momentum * old + (1 - momentum) * batch.

  They stay where the mask leaves fewer than two values, by `count`, and where
  the batch's is not finite, of squares that overflow for example: once in, it
  would never leave, and evaluation would be lost to one batch. A largest number
  in its place would take 800 steps to fade, at momentum 0.9.
  """

  def move(old: Array, values: Array) -> Array:
    new = momentum * old + (1 - momentum) * values.astype(old.dtype)
    # On explicit mesh axes both of a choice must be sharded alike.
    old = old + jnp.zeros_like(new)
    return jnp.where((count > 1) & jnp.isfinite(values), new, old)

  return {name: move(running[name], values) for name, values in batch.items()}


def blend(
  running: Mapping[str, Array],
  batch: Mapping[str, Array],
  mode: modes.Mode,
  count: Array,
) -> dict[str, Array]:
  """The statistics of `Mode(statistics="blended")`, by name.

  A step from the running statistics whose momentum is 1 - batch_weight: where
  `advance` leaves them, they are taken as they are.
  """
  assert mode.batch_weight is not None
  return advance(running, batch, 1 - mode.batch_weight, count)
