"""Batch normalization: Ioffe, Szegedy 2015, arXiv:1502.03167."""

from collections.abc import Mapping
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
from jax import lax

from normjax import errors, validate
from normjax.norms import affine, base, modes, moments, running
from normjax.types import Array


def batch_norm(
  momentum: float = 0.9,
  eps: float = 1e-5,
  running_variance: Literal["unbiased", "biased"] = "unbiased",
  virtual_batch_size: int | None = None,
) -> base.Norm:
  """Batch normalization: statistics of a channel over everything else.

      y = (x - mean) / sqrt(var + eps) * scale + bias
      running <- momentum * running + (1 - momentum) * batch

  arXiv:1502.03167, algorithms 1 and 2. In training, mean and the biased
  variance are those of the batch, over all axes but the last and over the
  masked-in values only; otherwise they are the running ones. Statistics are
  float32 (float64 for float64), two passes. Under jit over a sharded batch
  they are those of the whole batch, whatever the number of devices. Where a
  mask leaves fewer than two values, the running statistics stay. Blended
  statistics (`Mode`) are alpha-BN's: means and variances are mixed.

  Args:
    momentum: weighs the old running value, in [0, 1]; PyTorch's momentum is
      1 minus this one.
    eps: inside the square root, > 0.
    running_variance: what enters the running variance: "unbiased", divided by
      n - 1 (the paper, PyTorch), or "biased" (Flax, TensorFlow).
    virtual_batch_size: how many neighbouring examples share statistics in
      training: the ghost batches of arXiv:1705.08741. None: all of them. The
      running statistics take one step with the mean over the ghost batches;
      the paper's algorithm takes one with each, in turn. Where a ghost batch
      is what one device has, nothing is exchanged between devices.

  Raises:
    UserError: an option out of range; from `apply`, a training batch of one
      value per channel, or that ghost batches do not divide, or missing
      statistics.
  """
  validate.number("batch_norm", "momentum", momentum, least=0, most=1)
  validate.number("batch_norm", "eps", eps, above=0)
  validate.choice(
    "batch_norm", "running_variance", running_variance, ("unbiased", "biased")
  )
  if virtual_batch_size is not None:
    validate.count(
      "batch_norm", "virtual_batch_size", virtual_batch_size, least=1
    )
  return base.Norm(
    name="batch_norm",
    options={
      "momentum": momentum,
      "eps": eps,
      "running_variance": running_variance,
      "virtual_batch_size": virtual_batch_size,
    },
    traits=base.NormTraits(
      statistics="batch",
      scale_invariant=True,
      shift_invariant=True,
      foldable=True,
      needs_train_flag=True,
      blends=True,
    ),
    init_fn=_init,
    apply_fn=_apply,
  )


def _init(shape, dtype, **_: Any):
  return {
    "params": affine.init(shape, dtype),
    "stats": running.start(shape, dtype, mean=0, var=1),
  }


def _apply(
  variables: base.Variables,
  x: Array,
  *,
  mode: modes.Mode,
  mask: Array | None,
  momentum: float,
  eps: float,
  running_variance: str,
  virtual_batch_size: int | None,
  **_: Any,
):
  stats, params = variables["stats"], variables["params"]
  base.check_variables("batch_norm", variables, "stats", ("mean", "var"))
  base.check_features("batch_norm", x, stats["mean"].size)
  # Widened once: a second cast would round the gradient of x twice.
  wide = moments.promote(x)
  if mode.statistics == "running":
    return _by_moments(wide, params, stats, eps).astype(x.dtype), stats
  whole = mask is None and virtual_batch_size is None
  if mode.statistics == "batch" and whole:
    batch = running.measure_fixed("batch_norm", wide)
    y = running.standardize(x, params, batch, eps)
  else:
    if virtual_batch_size is None:
      normalized, batch = _by_batch(wide, mask, eps)
    else:
      normalized, batch = _by_ghost_batch(wide, mask, eps, virtual_batch_size)
    y = affine.apply(normalized, params).astype(x.dtype)
  new = {"mean": batch.mean, "var": batch.kept(running_variance)}
  if virtual_batch_size is not None:
    new = running.mean_of_ghosts(new, batch.size)
  count = jnp.max(batch.size)
  if mode.statistics == "blended":
    blended = running.blend(stats, new, mode, count)
    return _by_moments(wide, params, blended, eps).astype(x.dtype), stats
  return cast(Array, y), running.advance(stats, new, momentum, count)


def _by_moments(
  x: Array, params: Mapping[str, Array], given: Mapping[str, Array], eps: float
) -> Array:
  """By a mean and a variance that are given, in the dtype of x."""
  normalized = x - given["mean"].astype(x.dtype)
  normalized *= lax.rsqrt(given["var"].astype(x.dtype) + eps)
  return affine.apply(normalized, params)


def _by_batch(
  x: Array, mask: Array | None, eps: float
) -> tuple[Array, running.Batch]:
  """By the statistics of the batch, which come along."""
  batch = running.measure("batch_norm", x, mask)
  return (x - batch.mean) * lax.rsqrt(batch.variance + eps), batch


def _by_ghost_batch(
  x: Array, mask: Array | None, eps: float, size: int
) -> tuple[Array, running.Batch]:
  """`_by_batch` of every `size` examples; the statistics are (ghosts, c)."""
  if x.shape[0] % size:
    raise errors.UserError(
      f"batch_norm: virtual_batch_size={size} must divide the batch of"
      f" {x.shape[0]} examples in training."
    )

  def split(a: Array) -> Array:
    return a.reshape(-1, size, *a.shape[1:])

  masks = None if mask is None else split(mask)
  y, ghosts = jax.vmap(lambda x, mask: _by_batch(x, mask, eps))(split(x), masks)
  return y.reshape(x.shape), ghosts
