"""Batch-channel normalization: Qiao and others 2019, arXiv:1903.10520."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jax import lax

from normjax import validate
from normjax.norms import (
  affine,
  base,
  channel_groups,
  modes,
  moments,
  running,
)
from normjax.types import Array


def bcn(
  num_groups: int = 32,
  estimated: bool = False,
  update_rate: float = 0.1,
  eps: float = 1e-5,
) -> base.Norm:
  """Batch-channel normalization: a batch norm and then a group norm.

      h = (x - mean) / sqrt(var + eps) * scale + bias           one per channel
      y = (h - mean_G(h)) / sqrt(var_G(h) + eps) * group_scale + group_bias
                                                                one per group
      running <- (1 - update_rate) running + update_rate batch

  arXiv:1903.10520, as the official code has it: the second gain and offset are
  one per group of neighbouring channels, not one per channel as in many ports.
  `mean_G` and the biased `var_G` are those of the group at all pixels of one
  image. Large batches (estimated=False): mean and the biased var are the
  batch's, and the unbiased var enters the running one. Micro-batches
  (estimated=True): mean and var are the running ones, after this step's

      mean' = (1 - r) mean + r mean_B
      var' = (1 - r) var + r mean_B((x - mean)^2)

  about the mean from before; no gradient passes them, so that images meet in
  the statistics only. Evaluation takes the running ones in both,
  and blended statistics (`Mode`) are with either the running ones after a step
  whose r is the batch's weight.

  Statistics are float32 (float64 for float64), two passes; under jit over a
  sharded batch those of the whole batch. All of them are of what a mask, of
  images or pixels, leaves; where that is fewer than two values, the running
  ones stay.

  Args:
    num_groups: >= 1, divides the channels; 32 in the official code.
    estimated: whether training normalises by estimated statistics.
    update_rate: weighs the batch in the running statistics, in [0, 1]. The
      official code leaves that of estimated statistics at 0, which never
      learns any, and 0.1 is public re-implementations' choice.
    eps: inside both square roots, > 0.

  Raises:
    UserError: an option out of range; groups that do not divide the channels;
      from `apply`, an x that is not images, a training batch of one value per
      channel, or missing statistics.
  """
  validate.count("bcn", "num_groups", num_groups, least=1)
  validate.number("bcn", "update_rate", update_rate, least=0, most=1)
  validate.number("bcn", "eps", eps, above=0)
  validate.flags("bcn", estimated=estimated)
  return base.Norm(
    name="bcn",
    options={
      "num_groups": num_groups,
      "estimated": estimated,
      "update_rate": update_rate,
      "eps": eps,
    },
    traits=base.NormTraits(
      statistics="batch",
      scale_invariant=not estimated,
      shift_invariant=not estimated,
      needs_train_flag=True,
      blends=True,
      spatial_only=True,
      mixes_positions=True,
    ),
    init_fn=_init,
    apply_fn=_apply,
  )


def _init(shape, dtype, *, num_groups: int, **_: Any):
  base.check_groups("bcn", num_groups, shape[-1])
  return {
    "params": affine.init(shape, dtype)
    | {
      "group_scale": jnp.ones((num_groups,), dtype),
      "group_bias": jnp.zeros((num_groups,), dtype),
    },
    "stats": running.start(shape, dtype, mean=0, var=1),
  }


def _apply(
  variables: base.Variables,
  x: Array,
  *,
  mode: modes.Mode,
  mask: Array | None,
  num_groups: int,
  estimated: bool,
  update_rate: float,
  eps: float,
  **_: Any,
):
  stats = variables["stats"]
  first = {name: variables["params"][name] for name in ("scale", "bias")}
  base.check_images("bcn", x)
  base.check_variables("bcn", variables, "stats", ("mean", "var"))
  base.check_features("bcn", x, stats["mean"].size)
  wide = moments.promote(x)
  if mode.statistics == "batch" and not estimated:
    h, stats = _by_batch(wide, first, stats, mask, update_rate, eps)
  else:
    if mode.statistics == "batch":
      stats = _advanced(stats, wide, mask, estimated, update_rate)
    if mode.statistics == "blended":
      stats = _advanced(stats, wide, mask, estimated, mode.batch_weight)
    h = _by_moments(wide, first, stats["mean"], stats["var"], eps)
  repeats = x.shape[-1] // num_groups
  second = {
    name: jnp.repeat(variables["params"][f"group_{name}"], repeats)
    for name in ("scale", "bias")
  }
  y = channel_groups.standardize(h, second, num_groups, eps, mask)
  return y.astype(x.dtype), stats


def _by_batch(
  x: Array,
  params: Mapping[str, Array],
  stats: Mapping[str, Array],
  mask: Array | None,
  update_rate: float,
  eps: float,
) -> tuple[Array, Mapping[str, Array]]:
  """The first stage by the batch, and the running statistics after it."""
  if mask is None:
    batch = running.measure_fixed("bcn", x)
  else:
    batch = running.measure("bcn", x, mask)
  new = {"mean": batch.mean, "var": batch.kept("unbiased")}
  stats = running.advance(stats, new, 1 - update_rate, batch.size)
  if mask is None:
    return running.standardize(x, params, batch, eps), stats
  return _by_moments(x, params, batch.mean, batch.variance, eps), stats


def _by_moments(
  x: Array,
  params: Mapping[str, Array],
  mean: Array,
  variance: Array,
  eps: float,
) -> Array:
  """The first stage by moments that are given, in the dtype of x."""
  normalized = x - mean.astype(x.dtype)
  normalized *= lax.rsqrt(variance.astype(x.dtype) + eps)
  return affine.apply(normalized, params)


def _advanced(
  stats: Mapping[str, Array],
  x: Array,
  mask: Array | None,
  estimated: bool,
  update_rate: Any,
) -> Mapping[str, Array]:
  """The running statistics after a step; estimated ones have no gradient."""
  batch = running.measure("bcn", lax.stop_gradient(x) if estimated else x, mask)
  if estimated:
    # The mean of (x - old)^2, which is not below the variance.
    old = stats["mean"].astype(x.dtype)
    variance = batch.variance + jnp.square(batch.mean - old)
  else:
    variance = batch.kept("unbiased")
  new = {"mean": batch.mean, "var": variance}
  return running.advance(stats, new, 1 - update_rate, batch.size)
