"""Switchable normalization: Luo and others 2018, arXiv:1806.10779."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from normjax import errors, validate
from normjax.norms import affine, base, modes, moments, running
from normjax.types import Array

# In the order of the logits.
KINDS = ("instance", "layer", "batch")


def switchable_norm(momentum: float = 0.9, eps: float = 1e-5) -> base.Norm:
  """Switchable normalization: a learned mean of three norms' statistics.

      mean = Σ_k softmax(mean_weight)_k mean_k,  k in instance, layer, batch
      var = Σ_k softmax(var_weight)_k var_k
      y = (x - mean) / sqrt(var + eps) * scale + bias
      running <- momentum * running + (1 - momentum) * batch

  arXiv:1806.10779, with the official code's moments: the instance variance, of
  one channel of one image, is divided by n - 1; that of the layer (an image)
  and of the batch (a channel) is the mean instance variance plus the biased
  variance of the instance means. In evaluation the batch's moments are the
  running ones, which as in the official code both start at 0: a network that
  is evaluated before it is trained divides by less than it should. The
  official "batch average", sums over many batches after training, is not here.
  Blended statistics (`Mode`) mix both moments of the batch with those that run.

  Statistics are float32 (float64 for float64), two passes; under jit over a
  sharded batch those of the whole batch. A mask is of images, (b,), as all
  images weigh the same; where it leaves nothing, the running moments stay. The
  first derivative is in reverse mode, the second in any.

  Args:
    momentum: weighs the old running value, in [0, 1]: 0.9 as in the official
      2-d code.
    eps: inside the square root, > 0.

  Raises:
    UserError: an option out of range; from `apply`, an x that is not images or
      has images of one pixel, missing statistics, or a mask of pixels.
  """
  validate.number("switchable_norm", "momentum", momentum, least=0, most=1)
  validate.number("switchable_norm", "eps", eps, above=0)
  return base.Norm(
    name="switchable_norm",
    options={"momentum": momentum, "eps": eps},
    traits=base.NormTraits(
      statistics="batch",
      scale_invariant=True,
      shift_invariant=True,
      needs_train_flag=True,
      blends=True,
      spatial_only=True,
      mixes_positions=True,
    ),
    init_fn=_init,
    apply_fn=_apply,
  )


def _init(shape, dtype, **_: Any):
  logits = jnp.ones(len(KINDS), dtype)
  return {
    "params": affine.init(shape, dtype)
    | {"mean_weight": logits, "var_weight": logits},
    "stats": running.start(shape, dtype, mean=0, var=0),
  }


def _apply(
  variables: base.Variables,
  x: Array,
  *,
  mode: modes.Mode,
  mask: Array | None,
  momentum: float,
  eps: float,
  **_: Any,
):
  name = "switchable_norm"
  params, stats = variables["params"], variables["stats"]
  base.check_images(name, x)
  base.check_variables(name, variables, "stats", ("mean", "var"))
  base.check_features(name, x, stats["mean"].size)
  base.check_pixels(name, x)
  wide = moments.promote(x)
  if mask is not None:
    mask = moments.broadcast_mask(mask, wide)
    if mask.shape[1:] != (1, 1, 1):
      raise errors.UserError(
        f"{name}: a mask is of whole images, ({x.shape[0]},); got one of"
        f" pixels, {mask.shape[:3]}."
      )
  pixels = x.shape[1] * x.shape[2]
  mean, variance = moments.image_moments(wide)
  instance = (mean, variance * (pixels / (pixels - 1)))
  layer = _merged(*instance, axis=3, mask=None)
  batch = tuple(stats[key].astype(wide.dtype) for key in ("mean", "var"))
  if mode.statistics != "running":
    merged = _merged(*instance, axis=0, mask=mask)
    new = {"mean": merged[0].reshape(-1), "var": merged[1].reshape(-1)}
    count = moments.count(wide, (0, 1, 2), mask).reshape(-1)
    if mode.statistics == "batch":
      batch = merged
      stats = running.advance(stats, new, momentum, count)
    else:
      blended = running.blend(stats, new, mode, count)
      batch = tuple(blended[key].astype(wide.dtype) for key in ("mean", "var"))

  (mean, between, across), variances = zip(instance, layer, batch, strict=True)
  weights, of_variances = (
    jax.nn.softmax(params[name].astype(wide.dtype))
    for name in ("mean_weight", "var_weight")
  )
  # The weights add up to 1: where all three means are equal, that is the mean.
  mean += weights[1] * (between - mean) + weights[2] * (across - mean)
  variance = sum(w * v for w, v in zip(of_variances, variances, strict=True))
  normalized = (wide - mean) * lax.rsqrt(variance + eps)
  return affine.apply(normalized, params).astype(x.dtype), stats


def _merged(
  mean: Array, variance: Array, axis: int, mask: Array | None
) -> tuple[Array, Array]:
  """Mean and variance of all that equally large parts along `axis` hold.

  The official code has E[var + mean^2] - E[mean]^2, which is the same and
  cancels where means are large.
  """
  center, between = moments.mean_and_variance(mean, (axis,), mask)
  return center, moments.mean(variance, (axis,), mask) + between
