"""Batch renormalization: Ioffe 2017, arXiv:1702.03275."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jax import lax

from normjax import errors, validate
from normjax.norms import affine, base, modes, moments, running
from normjax.types import Array


def batch_renorm(
  momentum: float = 0.99,
  eps: float = 1e-5,
  r_max: float = 3.0,
  d_max: float = 5.0,
  warmup_steps: int = 5_000,
  r_max_steps: int = 40_000,
  d_max_steps: int = 25_000,
) -> base.Norm:
  """Batch renormalization: a batch corrected towards the running statistics.

      r = clip(std_B / std, 1 / R, R),  d = clip((mean_B - mean) / std, -D, D)
      y = ((x - mean_B) / std_B * r + d) * scale + bias
      running <- momentum * running + (1 - momentum) * batch

  arXiv:1702.03275, algorithm 1. mean_B and std_B = sqrt(var_B + eps), with the
  biased variance, are those of the batch; mean and std are the running ones
  from before this step, and those of evaluation. No gradient passes r and d.
  Without clipping y is that of evaluation; with R = 1 and D = 0, as in the
  first `warmup_steps` training calls (in a train step: optimizer steps), that
  of a batch norm. R then rises linearly to `r_max`, which it has after
  `r_max_steps`, and D from 0 to `d_max` after `d_max_steps`.

  What runs is the standard deviation, eps included, and not the variance; what
  is blended (`Mode`) is its square.
  Statistics are float32 (float64 for float64), two passes, of the masked-in
  values; under jit over a sharded batch those of the whole batch. Where a mask
  leaves fewer than two values, the running statistics stay. Without a mask
  the first derivative of training is in reverse mode, the second in any.

  Args:
    momentum: weighs the old running value, in [0, 1]; the paper's alpha, 0.01,
      is 1 minus this one.
    eps: inside the square root, > 0.
    r_max: the last R, >= 1.
    d_max: the last D, >= 0.
    warmup_steps: >= 0.
    r_max_steps: >= warmup_steps.
    d_max_steps: >= warmup_steps.

  Raises:
    UserError: an option out of range; from `apply`, a training batch of one
      value per channel, or missing statistics.
  """
  name = "batch_renorm"
  validate.number(name, "momentum", momentum, least=0, most=1)
  validate.number(name, "eps", eps, above=0)
  validate.number(name, "r_max", r_max, least=1)
  validate.number(name, "d_max", d_max, least=0)
  validate.count(name, "warmup_steps", warmup_steps, least=0)
  for option, steps in (
    ("r_max_steps", r_max_steps),
    ("d_max_steps", d_max_steps),
  ):
    validate.count(name, option, steps, least=0)
    if steps < warmup_steps:
      raise errors.UserError(
        f"{name}: {option}={steps} is before the rise begins; it must be >="
        f" warmup_steps={warmup_steps}."
      )
  return base.Norm(
    name=name,
    options={
      "momentum": momentum,
      "eps": eps,
      "r_max": r_max,
      "d_max": d_max,
      "warmup_steps": warmup_steps,
      "r_max_steps": r_max_steps,
      "d_max_steps": d_max_steps,
    },
    traits=base.NormTraits(
      statistics="batch", foldable=True, needs_train_flag=True, blends=True
    ),
    init_fn=_init,
    apply_fn=_apply,
  )


def _init(shape, dtype, **_: Any):
  return {
    "params": affine.init(shape, dtype),
    "stats": running.start(shape, dtype, mean=0, std=1)
    | {"steps": jnp.zeros((), jnp.int32)},
  }


def _apply(
  variables: base.Variables,
  x: Array,
  *,
  mode: modes.Mode,
  mask: Array | None,
  momentum: float,
  eps: float,
  r_max: float,
  d_max: float,
  warmup_steps: int,
  r_max_steps: int,
  d_max_steps: int,
  **_: Any,
):
  name = "batch_renorm"
  stats, params = variables["stats"], variables["params"]
  base.check_variables(name, variables, "stats", ("mean", "std", "steps"))
  base.check_features(name, x, stats["mean"].size)
  wide = moments.promote(x)
  mean = stats["mean"].astype(wide.dtype)
  std = stats["std"].astype(wide.dtype)
  if mode.statistics == "running":
    y = affine.apply((wide - mean) / std, params)
    return y.astype(x.dtype), stats
  if mode.statistics == "blended":
    batch = running.measure(name, wide, mask)
    mean, std = _blended(stats, batch, eps, mode)
    return affine.apply((wide - mean) / std, params).astype(x.dtype), stats
  if mask is None:
    batch = running.measure_fixed(name, wide)
  else:
    batch = running.measure(name, wide, mask)
  batch_std = jnp.sqrt(batch.variance + eps)
  steps = stats["steps"] + 1

  def risen(last_step: int) -> Array:
    """How far the bound is on its way, in [0, 1]."""
    way = max(last_step - warmup_steps, 1)
    return jnp.clip((steps - warmup_steps).astype(wide.dtype) / way, 0, 1)

  r_bound = 1 + (r_max - 1) * risen(r_max_steps)
  d_bound = d_max * risen(d_max_steps)
  r = jnp.clip(lax.stop_gradient(batch_std) / std, 1 / r_bound, r_bound)
  d = (lax.stop_gradient(batch.mean) - mean) / std
  d = jnp.clip(d, -d_bound, d_bound)
  if mask is None:
    # (n r + d) scale + bias, with n of a batch norm.
    scale = params["scale"].astype(wide.dtype)
    moved = {"scale": scale * r, "bias": affine.apply(d, params)}
    y = running.standardize(x, moved, batch, eps)
  else:
    y = affine.apply((wide - batch.mean) / batch_std * r + d, params)
  new = {"mean": batch.mean, "std": batch_std}
  advanced = running.advance(stats, new, momentum, batch.size)
  return y.astype(x.dtype), {**advanced, "steps": steps}


def _blended(
  stats: Mapping[str, Array], batch: running.Batch, eps: float, mode: modes.Mode
) -> tuple[Array, Array]:
  """Mean and standard deviation, of mixed means and mixed variances."""
  old = {"mean": stats["mean"], "var": jnp.square(stats["std"])}
  new = {"mean": batch.mean, "var": batch.variance + eps}
  blended = running.blend(old, new, mode, batch.size)
  dtype = batch.mean.dtype
  return blended["mean"].astype(dtype), jnp.sqrt(blended["var"]).astype(dtype)
