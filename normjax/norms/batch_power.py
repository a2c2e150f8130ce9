"""What norms share that divide by the power of a batch and have their own
backward: PowerNorm and Unified Normalization.

Their statistics of the backward pass are in "grad_stats". By convention the
gradient with respect to such a leaf is its new value.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from normjax.norms import modes, moments
from normjax.types import Array


def mean_square(x: Array, mask: Array | None, otherwise: Array) -> Array:
  """mean(x^2) of each channel over the real positions.

  Args:
    x: channels-last, float32 or float64.
    mask: true for real positions, of leading axes of x; None for all.
    otherwise: (c,), what comes out where the mask leaves nothing.

  Returns:
    (c,), in the dtype of x.

  Raises:
    UserError: a mask that does not fit.
  """
  axes = tuple(range(x.ndim - 1))
  if mask is None:
    return moments.mean_square(x, axes).reshape(-1)
  mask = moments.broadcast_mask(mask, x)
  power = moments.mean_square(x, axes, mask).reshape(-1)
  return jnp.where(
    moments.count(x, axes, mask).reshape(-1) > 0, power, otherwise
  )


def blend(
  running: Array, x: Array, mask: Array | None, mode: modes.Mode
) -> Array:
  """The power of `Mode(statistics="blended")`, (c,): see `running.blend`.

  Args:
    running: (c,), in the dtype of x.
    x: see `mean_square`; its gradient passes.
    mask: see `mean_square`.
    mode: says the batch's weight.
  """
  assert mode.batch_weight is not None
  q = mean_square(x, mask, otherwise=running)
  blended = (1 - mode.batch_weight) * running + mode.batch_weight * q
  return moments.finite_or(blended, running)


def size(x: Array, mask: Array) -> Array:
  """The number of real positions, (), in the dtype of x's statistics."""
  axes = tuple(range(x.ndim - 1))
  mask = moments.broadcast_mask(mask, x)
  return moments.count(x, axes, mask).reshape(())


@jax.custom_vjp
def keep_grad_stats(y: Array, grad_stats: Mapping[str, Array]) -> Array:
  """Returns y; the gradient of each backward statistic is its old value."""
  del grad_stats
  return y


keep_grad_stats.defvjp(
  lambda y, grad_stats: (y, grad_stats),
  lambda grad_stats, dy: (dy, grad_stats),
)
