"""Instance-aware batch normalization: Gong et al. 2022, arXiv:2208.05117.

Official code: github.com/TaesikGong/NOTE, utils/iabn.py (MIT).
"""

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jax import lax

from normjax import validate
from normjax.norms import affine, base, modes, moments, running
from normjax.types import Array


def iabn(
  threshold: float = 4.0,
  momentum: float = 0.9,
  eps: float = 1e-5,
  skip_positions: int = 1,
) -> base.Norm:
  """Batch statistics, corrected by those of an example where they are far off.

      mu_b   = mean + shrink(mean_b - mean, k sqrt((var + eps) / n))
      var_b' = max(0, var + shrink(var_b - var,
                                   k (var + eps) sqrt(2 / (n - 1))))
      y_b    = (x_b - mu_b) / sqrt(var_b' + eps) * scale + bias

  with shrink(d, t) = sign(d) max(|d| - t, 0), mean_b and var_b those of example
  b over its n positions, and mean, var the batch's in training and the running
  ones in evaluation. All variances are unbiased, those of training too. An
  example is left to the batch unless it is further off than k standard errors
  of n independent values. Statistics are float32 (float64 for float64), two
  passes.

  Args:
    threshold: k. The paper takes 4.
    momentum: weighs the old running value, in [0, 1].
    eps: inside the square roots, > 0.
    skip_positions: an example of so many positions or fewer is batch
      normalized.

  Raises:
    UserError: an option out of range; from `apply`, an x without positions, a
      training batch of one value per channel, or missing statistics.
  """
  validate.number("iabn", "threshold", threshold, least=0)
  validate.number("iabn", "momentum", momentum, least=0, most=1)
  validate.number("iabn", "eps", eps, above=0)
  validate.count("iabn", "skip_positions", skip_positions, 1)
  return base.Norm(
    name="iabn",
    options={
      "threshold": threshold,
      "momentum": momentum,
      "eps": eps,
      "skip_positions": skip_positions,
    },
    traits=base.NormTraits(
      statistics="batch",
      scale_invariant=True,
      shift_invariant=True,
      needs_train_flag=True,
      blends=True,
      mixes_positions=True,
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
  threshold: float,
  momentum: float,
  eps: float,
  skip_positions: int,
  **_: Any,
):
  stats, params = variables["stats"], variables["params"]
  base.check_variables("iabn", variables, "stats", ("mean", "var"))
  base.check_positions("iabn", x)
  base.check_features("iabn", x, stats["mean"].size)
  wide = moments.promote(x)
  used: Mapping[str, Array] = stats
  new = stats
  if mode.statistics != "running":
    batch = running.measure("iabn", wide, mask)
    own = {"mean": batch.mean, "var": batch.kept("unbiased")}
    new = running.advance(stats, own, momentum, batch.size)
    used = own
    if mode.statistics == "blended":
      used = running.blend(stats, own, mode, batch.size)
  mean, var = used["mean"].astype(wide.dtype), used["var"].astype(wide.dtype)
  if math.prod(x.shape[1:-1]) > skip_positions:
    mean, var = _corrected(wide, mask, mean, var, threshold, eps)
  y = affine.apply((wide - mean) * lax.rsqrt(var + eps), params)
  return y.astype(x.dtype), new


def _corrected(
  x: Array, mask: Array | None, mean: Array, var: Array, k: float, eps: float
) -> tuple[Array, Array]:
  """Mean and variance of each example, (b, 1, …, c)."""
  axes = tuple(range(1, x.ndim - 1))
  if mask is not None:
    mask = moments.broadcast_mask(mask, x)
  own_mean, own_var = moments.mean_and_variance(x, axes, mask)
  n = moments.count(x, axes, mask)
  more = jnp.maximum(n - 1, 1)
  own_var = own_var * (n / more)
  # One value has no variance of its own, and where squares overflow there is
  # nothing to compare: see `moments`.
  real = (n > 1) & jnp.isfinite(own_var) & jnp.isfinite(var)
  own_var, batch_var = (jnp.where(real, v, 0) for v in (own_var, var))
  mean_error = k * jnp.sqrt((batch_var + eps) / jnp.maximum(n, 1))
  var_error = k * (batch_var + eps) * jnp.sqrt(2 / more)
  new_mean = mean + _shrink(own_mean - mean, mean_error)
  new_var = batch_var + _shrink(own_var - batch_var, var_error)
  return (
    jnp.where(real, new_mean, mean),
    jnp.where(real, jnp.maximum(new_var, 0), var),
  )


def _shrink(difference: Array, threshold: Array) -> Array:
  """Towards 0 by the threshold."""
  return jnp.maximum(difference - threshold, 0) - jnp.maximum(
    -difference - threshold, 0
  )
