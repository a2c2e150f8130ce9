"""Batch normalization: Ioffe, Szegedy 2015, arXiv:1502.03167."""

import math
from collections.abc import Mapping
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
from jax import lax

from kernels_pallas import blocks
from normjax.norms import affine, base, moments
from normjax.types import Array


def batch_norm(
  momentum: float = 0.9,
  eps: float = 1e-5,
  running_variance: Literal["unbiased", "biased"] = "unbiased",
) -> base.Norm:
  """Batch normalization: statistics of a channel over everything else.

      y = (x - mean) / sqrt(var + eps) * scale + bias
      running <- momentum * running + (1 - momentum) * batch

  arXiv:1502.03167, algorithms 1 and 2. In training, mean and the biased
  variance are those of the batch, over all axes but the last and over the
  masked-in values only; otherwise they are the running ones. Statistics are
  float32 (float64 for float64), two passes. Under jit over a sharded batch
  they are those of the whole batch, whatever the number of devices. Where a
  mask leaves fewer than two values, the running statistics stay.

  Args:
    momentum: weighs the old running value, in [0, 1]; PyTorch's momentum is
      1 minus this one.
    eps: inside the square root, > 0.
    running_variance: what enters the running variance: "unbiased", divided by
      n - 1 (the paper, PyTorch), or "biased" (Flax, TensorFlow).

  Raises:
    UserError: an option out of range; from `apply`, a training batch of one
      value a channel, or missing statistics.
  """
  base.check_number("batch_norm", "momentum", momentum, least=0, most=1)
  base.check_number("batch_norm", "eps", eps, above=0)
  base.check_choice(
    "batch_norm", "running_variance", running_variance, ("unbiased", "biased")
  )
  return base.Norm(
    name="batch_norm",
    options={
      "momentum": momentum,
      "eps": eps,
      "running_variance": running_variance,
    },
    traits=base.NormTraits(
      statistics="batch",
      scale_invariant=True,
      shift_invariant=True,
      foldable=True,
      needs_train_flag=True,
    ),
    init_fn=_init,
    apply_fn=_apply,
  )


def _init(shape, dtype, **_: Any):
  wide = jnp.promote_types(dtype, jnp.float32)
  return {
    "params": affine.init(shape, dtype),
    "stats": {
      "mean": jnp.zeros(shape[-1:], wide),
      "var": jnp.ones(shape[-1:], wide),
    },
  }


def _apply(
  variables: base.Variables,
  x: Array,
  *,
  train: bool,
  mask: Array | None,
  momentum: float,
  eps: float,
  running_variance: str,
  **_: Any,
):
  running = variables["stats"]
  base.check_held("batch_norm", variables, "stats", ("mean", "var"))
  base.check_features("batch_norm", x, running["mean"].size)
  # Widened once: a second cast would round the gradient of x twice.
  wide = moments.promote(x)
  if train and mask is None:
    mean, variance, running = _batch_statistics(
      lax.stop_gradient(x), None, running, momentum, running_variance
    )
    y = _normalize(x, variables["params"], mean, lax.rsqrt(variance + eps))
    return cast(Array, y), running
  if train:
    mean, variance, running = _batch_statistics(
      wide, mask, running, momentum, running_variance
    )
  else:
    mean, variance = running["mean"], running["var"]
  dtype = wide.dtype
  normalized = wide - mean.astype(dtype)
  normalized *= lax.rsqrt(variance.astype(dtype) + eps)
  y = affine.apply(normalized, variables["params"])
  return y.astype(x.dtype), running


def _batch_statistics(
  x: Array,
  mask: Array | None,
  running: Mapping[str, Array],
  momentum: float,
  running_variance: str,
) -> tuple[Array, Array, dict[str, Array]]:
  """Mean and biased variance of each channel, (c,), and the running ones."""
  base.check_batch("batch_norm", x)
  axes = tuple(range(x.ndim - 1))
  if mask is not None:
    mask = moments.broadcast_mask(mask, x)
  if mask is None:
    mean, variance = _mean_and_variance(x)
  else:
    mean, variance = moments.mean_and_variance(x, axes, mask)
  mean, variance = mean.reshape(-1), variance.reshape(-1)
  count = moments.count(x, axes, mask).reshape(-1)
  batch_variance = variance
  if running_variance == "unbiased":
    batch_variance = variance * (count / jnp.maximum(count - 1, 1))

  def average(old: Array, batch: Array) -> Array:
    new = momentum * old + (1 - momentum) * batch.astype(old.dtype)
    return jnp.where(count > 1, new, old)

  return (
    mean,
    variance,
    {
      "mean": average(running["mean"], mean),
      "var": average(running["var"], batch_variance),
    },
  )


def _mean_and_variance(x: Array) -> tuple[Array, Array]:
  """Those of each channel over all positions, in two passes."""
  flat, count = x.reshape(-1, x.shape[-1]), math.prod(x.shape[:-1])
  total, _ = blocks.reduce(lambda x: (jnp.sum(moments.promote(x), 0), ()), flat)
  mean = total / count
  square, _ = blocks.reduce(
    lambda x: (jnp.sum(jnp.square(moments.promote(x) - mean), 0), ()), flat
  )
  return mean, square / count


@jax.custom_vjp
def _normalize(
  x: Array, params: Mapping[str, Array], mean: Array, r: Array
) -> Array:
  """(x - mean) r, scaled and shifted; its gradient is that through both too."""
  normalized = (moments.promote(x) - mean) * r
  return affine.apply(normalized, params).astype(x.dtype)


def _normalize_forward(x, params, mean, r):
  return _normalize(x, params, mean, r), (x, params, mean, r)


def _normalize_backward(residuals, dy):
  """With n = (x - mean) r: dx = scale r (dy - mean(dy) - n mean(dy n))."""
  x, params, mean, r = blocks.anew(residuals[0], residuals)

  def normalized(x):
    return (moments.promote(x) - mean) * r

  def sums(x, dy):
    dy = moments.promote(dy)
    return (jnp.sum(dy * normalized(x), 0), jnp.sum(dy, 0)), ()

  flat = x.reshape(-1, x.shape[-1]), dy.reshape(-1, x.shape[-1])
  (dscale, dbias), _ = blocks.reduce(sums, *flat)
  count = flat[0].shape[0]
  centered = moments.promote(dy) - dbias / count
  centered -= normalized(x) * (dscale / count)
  dx = params["scale"].astype(r.dtype) * r * centered
  gradients = {"scale": dscale, "bias": dbias}
  return (
    dx.astype(x.dtype),
    {name: gradients[name].astype(params[name].dtype) for name in params},
    None,
    None,
  )


_normalize.defvjp(_normalize_forward, _normalize_backward)
