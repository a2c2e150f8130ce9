"""Unified Normalization: Yang et al. 2022, arXiv:2208.01313."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import lax

from kernels_pallas import blocks
from normjax import validate
from normjax.norms import affine, base, batch_power, modes, moments
from normjax.types import Array

# The official code corrects gradients for the ratio of the window to the
# running statistic after this many steps at the earliest, within these bounds.
_FIRST_CORRECTED_STEP = 1000
_LARGEST_CORRECTION = 5.0


def unified_norm(
  window: int | tuple[int, int] = 4,
  warmup_steps: int = 4000,
  outlier_filtration: bool = False,
  momentum: float = 0.9,
  eps: float = 1e-5,
  padding_in_gradient: bool = False,
) -> base.Norm:
  """Unified Normalization: division by the power of the last few batches.

      q = mean(x^2) of a channel over all tokens, put into buffer_x2
      var = q if t <= window or t < warmup_steps or skipped
            else the geometric mean of buffer_x2
      r = sqrt((var + eps) / (running_var + eps)), within [1/5, 5]; 1 if
            t <= max(1000, warmup_steps) or skipped
      z = x / sqrt(var + eps),   y = z * scale + bias
      running_var <- momentum running_var + (1 - momentum) var

  with t = 1, 2, … the training calls, of a train step its optimizer steps.
  Evaluation divides by sqrt(running_var + eps), which a neighbouring linear
  layer can absorb; blended (`Mode`) is running_var with q, without windows. The
  backward pass of training is not the derivative. With g the gradient of z
  times r, and dscale = sum(dy r z),

      gz = mean(g z), put into buffer_gz (when skipped: ema_gz)
      mean_gz = gz if t <= window or t < warmup_steps or skipped
            else the mean of buffer_gz
      ema_gz <- momentum ema_gz + (1 - momentum) mean_gz
      dx = (g - (mean_gz if skipped else the new ema_gz) z) / sqrt(var + eps)

  arXiv:2208.01313, as the official code computes it. Filtration skips the
  window, from warmup_steps on, where in any channel the arithmetic mean of
  buffer_x2 exceeds the geometric one by more than window times the variance,
  over all entries, of sqrt(buffer_x2) before q came in; the slot then gets
  running_var, while running_var takes in the outlier. A window of 1 is
  skipped at every step: batch RMS with its exact gradient.

  eps stands inside the square root. Statistics are float32 (float64 for
  float64; the official code keeps the input's dtype). Under jit over a sharded
  batch they are those of the whole batch, and so is the decision to skip
  (there: of one device). A mask leaves padding out of q, of
  mean(g z) and of every gradient; in the official code it is left out of q
  only (`padding_in_gradient`). Where a mask leaves nothing, q is running_var.
  What is not finite enters no statistic: running_var takes the place of q in
  buffer_x2, and ema_gz that of gz in buffer_gz.

  The gradients with respect to `ema_gz` and `buffer_gz` are their new values
  (train=False: their old ones), for whoever calls `jax.grad` to write back,
  never for an optimizer. They are on the scale of the loss: a loss scale would
  end up in them, and a norm that is used twice in one loss, or under a vmap
  inside of it, adds both values.

  Warning: in a causal model q is a leak. All positions enter it, later ones
  too, and it enters the output of every training step.

  Args:
    window: how many batches, >= 1; a pair for the forward and the backward
      pass.
    warmup_steps: >= 0. Counts on from a checkpoint; the official code resets
      `steps` to fine-tune. With filtration at least the window: the zeros that
      it starts with look like outliers.
    outlier_filtration: the official code advises it for images, not for text.
    momentum: weighs the old running value, in [0, 1].
    eps: > 0.
    padding_in_gradient: the official code's backward pass, whose mean runs
      over all positions, padding too: what the padding holds, which must be
      finite, then moves every gradient.

  Raises:
    UserError: an option out of range; from `apply`, missing statistics or a
      training batch of one token.
  """
  name = "unified_norm"
  pair = tuple(window) if isinstance(window, tuple | list) else (window,) * 2
  if len(pair) != 2:
    validate.refuse(
      name,
      "window",
      window,
      "an int, or a pair of them for the forward and the backward pass",
    )
  for size in pair:
    validate.count(name, "window", size, least=1)
  validate.count(name, "warmup_steps", warmup_steps, least=0)
  validate.flags(name, outlier_filtration=outlier_filtration)
  validate.number(name, "momentum", momentum, least=0, most=1)
  validate.number(name, "eps", eps, above=0)
  validate.flags(name, padding_in_gradient=padding_in_gradient)
  return base.Norm(
    name=name,
    options={
      "window": pair,
      "warmup_steps": warmup_steps,
      "outlier_filtration": outlier_filtration,
      "momentum": momentum,
      "eps": eps,
      "padding_in_gradient": padding_in_gradient,
    },
    traits=base.NormTraits(
      statistics="batch",
      scale_invariant=pair[0] == 1,
      foldable=True,
      needs_train_flag=True,
      blends=True,
      padding_in_gradient=padding_in_gradient,
    ),
    init_fn=_init,
    apply_fn=_apply,
  )


def _init(shape, dtype, *, window: tuple[int, int], **_: Any):
  wide = jnp.promote_types(dtype, jnp.float32)
  channels = shape[-1]
  return {
    "params": affine.init(shape, dtype),
    "stats": {
      "running_var": jnp.ones(channels, wide),
      "buffer_x2": jnp.zeros((window[0], channels), wide),
      "steps": jnp.zeros((), jnp.int32),
      "skips": jnp.zeros((), jnp.int32),
    },
    "grad_stats": {
      "ema_gz": jnp.zeros(channels, wide),
      "buffer_gz": jnp.zeros((window[1], channels), wide),
    },
  }


def _apply(
  variables: base.Variables,
  x: Array,
  *,
  mode: modes.Mode,
  mask: Array | None,
  window: tuple[int, int],
  warmup_steps: int,
  outlier_filtration: bool,
  momentum: float,
  eps: float,
  padding_in_gradient: bool,
  **_: Any,
):
  stats, grad_stats = variables["stats"], variables["grad_stats"]
  base.check_variables(
    "unified_norm",
    variables,
    "stats",
    ("running_var", "buffer_x2", "steps", "skips"),
  )
  base.check_features("unified_norm", x, stats["running_var"].size)
  wide = moments.promote(x)
  running = stats["running_var"].astype(wide.dtype)
  params = variables["params"]
  if mode.statistics != "batch":
    if mode.statistics == "blended":
      running = batch_power.blend(running, wide, mask, mode)
    y = affine.apply(wide * lax.rsqrt(running + eps), params)
    return y.astype(x.dtype), stats

  base.check_variables(
    "unified_norm", variables, "grad_stats", ("ema_gz", "buffer_gz")
  )
  base.check_batch("unified_norm", x)
  q = batch_power.mean_square(lax.stop_gradient(wide), mask, otherwise=running)
  size = None
  if mask is not None and not padding_in_gradient:
    size = batch_power.size(x, mask)
  steps = stats["steps"] + 1
  buffer, skipped, outlier = _insert(
    stats["buffer_x2"].astype(wide.dtype),
    q,
    running,
    steps,
    steps >= warmup_steps if outlier_filtration else None,
  )
  early = steps < warmup_steps
  variance = jnp.where(
    early | skipped | (steps <= window[0]), q, _geometric_mean(buffer)
  )
  r = jnp.clip(
    jnp.sqrt(variance + eps) / jnp.sqrt(running + eps),
    1 / _LARGEST_CORRECTION,
    _LARGEST_CORRECTION,
  )
  first = max(_FIRST_CORRECTED_STEP, warmup_steps)
  r = jnp.where(skipped | (steps <= first), 1, r)
  y = _normalize(
    momentum,
    x,
    params,
    _Step(
      inverse=lax.rsqrt(variance + eps),
      correction=r,
      skipped=skipped,
      windowed=~(early | skipped | (steps <= window[1])),
      slot=steps % window[1],
      size=size,
    ),
    {name: grad_stats[name] for name in ("ema_gz", "buffer_gz")},
  )
  y = cast(Array, y)
  if mask is not None and size is not None:
    # No gradient of padding comes back.
    y = base.hide(y, mask)
  new = {
    "running_var": moments.finite_or(
      momentum * running + (1 - momentum) * variance, running
    ),
    "buffer_x2": buffer,
    "steps": steps,
    "skips": stats["skips"] + outlier,
  }
  new = {name: value.astype(stats[name].dtype) for name, value in new.items()}
  return y, new


def _insert(
  buffer: Array,
  q: Array,
  running: Array,
  steps: Array,
  filtering: Array | None,
) -> tuple[Array, Array, Array]:
  """Puts q, or for an outlier the running statistic, into its slot.

  Args:
    buffer: (w, c), of the last batches.
    q: (c,), of this batch.
    running: (c,).
    steps: (), the number of this step, from 1.
    filtering: (), whether outliers are looked for; None for never.

  Returns:
    The buffer, whether this step does without the window, and whether it does
    so as an outlier.
  """
  size = buffer.shape[0]
  slot = steps % size
  q = moments.finite_or(q, running)
  inserted = buffer.at[slot].set(q)
  always = jnp.asarray(size == 1)
  if filtering is None:
    return inserted, always, jnp.zeros((), bool)
  spread = jnp.var(jnp.sqrt(buffer), ddof=1)
  gap = jnp.mean(inserted, axis=0) - _geometric_mean(inserted)
  outlier = filtering & jnp.any(gap > spread * size)
  buffer = buffer.at[slot].set(jnp.where(outlier, running, q))
  return buffer, always | outlier, outlier


def _geometric_mean(buffer: Array) -> Array:
  return jnp.exp(jnp.mean(jnp.log(buffer), axis=0))


class _Step(NamedTuple):
  """What the forward pass has decided; no gradient goes through it."""

  inverse: Array  # (c,), what x and its gradient are multiplied by.
  correction: Array  # (c,), r.
  skipped: Array  # (), whether this step does without the windows.
  windowed: Array  # (), whether the backward window is used.
  slot: Array  # (), of this step in the backward window.
  size: Array | None  # (), the number of real positions; None for all.


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _normalize(
  momentum: float,
  x: Array,
  params: Mapping[str, Array],
  step: _Step,
  grad_stats: Mapping[str, Array],
) -> Array:
  """The output in the dtype of x, with the gradient of arXiv:2208.01313.

  One function from x to y, so that the backward pass needs x alone and takes
  all its sums over tokens at once.
  """
  del momentum, grad_stats
  z = moments.promote(x) * step.inverse
  return affine.apply(z, params).astype(x.dtype)


def _normalize_forward(momentum, x, params, step, grad_stats):
  y = _normalize(momentum, x, params, step, grad_stats)
  return y, (x, params, step, grad_stats)


def _normalize_backward(momentum, residuals, dy):
  x, params, step, old = blocks.unfused(residuals[0], residuals)
  channels = x.shape[-1]
  dtype = jnp.promote_types(dy.dtype, jnp.float32)

  def sums(x, dy):
    dy = moments.promote(dy)
    return (jnp.sum(dy * moments.promote(x), 0), jnp.sum(dy, 0)), ()

  flat = x.reshape(-1, channels), dy.reshape(-1, channels)
  (dy_x, dbias), _ = blocks.reduce(sums, *flat)
  # z = x inverse, and g = dy scale correction.
  dscale = dy_x * step.inverse * step.correction
  gain = step.correction * params["scale"].astype(dtype)
  ema, buffer = (old[k].astype(dtype) for k in ("ema_gz", "buffer_gz"))
  gz = dscale * params["scale"].astype(dtype)
  if step.size is None:
    gz /= flat[0].shape[0]
  else:
    gz = jnp.where(step.size > 0, gz / jnp.maximum(step.size, 1), ema)
  kept = jnp.where(step.skipped, ema, moments.finite_or(gz, ema))
  buffer = buffer.at[step.slot].set(kept)
  mean_gz = jnp.where(step.windowed, jnp.mean(buffer, axis=0), gz)
  moved = momentum * ema + (1 - momentum) * mean_gz
  taken = jnp.where(step.skipped, mean_gz, moved)
  new = {"ema_gz": moments.finite_or(moved, ema), "buffer_gz": buffer}
  new = {name: value.astype(old[name].dtype) for name, value in new.items()}
  z = moments.promote(x) * step.inverse
  dx = (moments.promote(dy) * gain - taken * z) * step.inverse
  gradients = {"scale": dscale, "bias": dbias}
  gradients = {
    name: gradients[name].astype(value.dtype) for name, value in params.items()
  }
  return dx.astype(x.dtype), gradients, None, new


_normalize.defvjp(_normalize_forward, _normalize_backward)
