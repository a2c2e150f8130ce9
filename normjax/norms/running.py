"""Running statistics of batches: what the norms of batches share."""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import DTypeLike

from normjax.norms import base, moments
from normjax.types import Array


def start(
  shape: tuple[int, ...], dtype: DTypeLike, **values: float
) -> dict[str, Array]:
  """First running statistics, one a channel, float32 at least.

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
    UserError: one value a channel; a mask that does not fit.
  """
  base.check_batch(norm, x)
  axes = tuple(range(x.ndim - 1))
  if mask is not None:
    mask = moments.broadcast_mask(mask, x)
  mean, variance = moments.mean_and_variance(x, axes, mask)
  count = moments.count(x, axes, mask).reshape(-1)
  return Batch(mean.reshape(-1), variance.reshape(-1), count)


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
  momentum: float,
  count: Array,
) -> dict[str, Array]:
  """The running statistics, by name: momentum * old + (1 - momentum) * batch.

  Where the mask leaves fewer than two values, by `count`, they stay.
  """
  return {
    name: jnp.where(
      count > 1,
      momentum * running[name]
      + (1 - momentum) * values.astype(running[name].dtype),
      running[name],
    )
    for name, values in batch.items()
  }
