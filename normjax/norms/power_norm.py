"""PowerNorm: Shen, Yao, Gholami, Mahoney, Keutzer 2020, arXiv:2003.07845."""

import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import lax

from kernels_pallas import blocks
from normjax import validate
from normjax.norms import affine, base, batch_power, modes, moments
from normjax.types import Array


def power_norm(
  num_groups: int = 1,
  warmup_steps: int = 10_000,
  forward_momentum: float = 0.9,
  backward_momentum: float = 0.9,
  eps: float = 1e-5,
  padding_in_gradient: bool = False,
) -> base.Norm:
  """PowerNorm: division by a running quadratic mean of the batch.

      h = x / sqrt(mean(x^2 of the token's group) + eps)
      q = mean(h^2) of a channel over all tokens
      z = h / sqrt((q if t <= warmup_steps else phi) + eps)
      phi <- phi (t - 1) / t + q / t             while t < warmup_steps
      phi <- forward_momentum phi + (1 - forward_momentum) q       always
      y = z * scale + bias

  with t = 1, 2, … the training calls, of a train step its optimizer steps.
  Evaluation divides h by sqrt(phi + eps): the groups stay live; blended
  (`Mode`) is phi with q. The backward pass of training is not the derivative.
  With g the gradient of z,

      g' = g - (1 - backward_momentum) ema_gz z
      dh = g' / sqrt(q + eps)
      ema_gz <- ema_gz + mean(g' z)

  arXiv:2003.07845, algorithms 1 and 2, as the official fairseq fork computes
  them: it adds the groups and the warm-up, in which phi moves twice per step,
  and divides the gradient by the batch's q throughout. Both eps stand inside
  the square root. Statistics are float32 (float64 for float64; the official
  code keeps the input's dtype) and, under jit over a sharded batch, those of
  the whole batch (there: of one device).A mask leaves padding out of q, of the
  means of the backward pass and of every gradient; in the official code it is
  left out of q only (`padding_in_gradient`). Where a mask leaves nothing, q is
  phi and ema_gz stays. What is not finite enters neither phi nor ema_gz.

  The gradient with respect to `ema_gz` is its new value (train=False: its old
  one), for whoever calls `jax.grad` to write back, never for an optimizer. It
  is on the scale of the loss: a loss scale would end up in it, and a norm that
  is used twice in one loss, or under a vmap inside of it, adds both values. It
  grows without bound where z has more than 2 / (1 - backward_momentum) times
  the running power for long, 20 by default.

  Warning: in a causal model q is a leak. All positions enter it, later ones
  too, and it enters the output until the warm-up ends, the gradient always.

  Args:
    num_groups: groups of channels that each token is first divided by the
      quadratic mean of; the official code takes the number of heads.
    warmup_steps: >= 0. The official class has 10000; its recipes take 1000 or
      the learning rate's warm-up.
    forward_momentum: weighs the old phi, in [0, 1].
    backward_momentum: 1 minus the rate of ema_gz, in [0, 1].
    eps: > 0.
    padding_in_gradient: the official code's backward pass, whose means run
      over all positions, padding too: what the padding holds, which must be
      finite, then moves every gradient.

  Raises:
    UserError: an option out of range; groups that do not divide the features;
      from `apply`, missing statistics or a training batch of one token.
  """
  name = "power_norm"
  validate.count(name, "num_groups", num_groups, least=1)
  validate.count(name, "warmup_steps", warmup_steps, least=0)
  validate.number(name, "forward_momentum", forward_momentum, least=0, most=1)
  validate.number(name, "backward_momentum", backward_momentum, least=0, most=1)
  validate.number(name, "eps", eps, above=0)
  validate.flags(name, padding_in_gradient=padding_in_gradient)
  return base.Norm(
    name=name,
    options={
      "num_groups": num_groups,
      "warmup_steps": warmup_steps,
      "forward_momentum": forward_momentum,
      "backward_momentum": backward_momentum,
      "eps": eps,
      "padding_in_gradient": padding_in_gradient,
    },
    traits=base.NormTraits(
      statistics="batch",
      scale_invariant=True,
      needs_train_flag=True,
      blends=True,
      padding_in_gradient=padding_in_gradient,
    ),
    init_fn=_init,
    apply_fn=_apply,
  )


def _init(shape, dtype, *, num_groups: int, **_: Any):
  base.check_groups("power_norm", num_groups, shape[-1])
  wide = jnp.promote_types(dtype, jnp.float32)
  return {
    "params": affine.init(shape, dtype),
    "stats": {
      "running_phi": jnp.ones(shape[-1:], wide),
      "steps": jnp.zeros((), jnp.int32),
    },
    "grad_stats": {"ema_gz": jnp.zeros(shape[-1:], wide)},
  }


def _apply(
  variables: base.Variables,
  x: Array,
  *,
  mode: modes.Mode,
  mask: Array | None,
  num_groups: int,
  warmup_steps: int,
  forward_momentum: float,
  backward_momentum: float,
  eps: float,
  padding_in_gradient: bool,
  **_: Any,
):
  base.check_variables(
    "power_norm", variables, "stats", ("running_phi", "steps")
  )
  stats, grad_stats = variables["stats"], variables["grad_stats"]
  base.check_features("power_norm", x, stats["running_phi"].size)
  wide = moments.promote(x)
  phi = stats["running_phi"].astype(wide.dtype)
  if mode.statistics != "batch":
    h = wide * _spread(_reciprocal_roots(wide, num_groups, eps), wide)
    if mode.statistics == "blended":
      phi = batch_power.blend(phi, h, mask, mode)
    y = affine.apply(h * lax.rsqrt(phi + eps), variables["params"])
    return y.astype(x.dtype), stats

  base.check_variables("power_norm", variables, "grad_stats", ("ema_gz",))
  base.check_batch("power_norm", x)
  total, roots = _power_and_roots(lax.stop_gradient(x), num_groups, eps)
  size = None
  q = power = total / math.prod(x.shape[:-1])
  if mask is not None and padding_in_gradient:
    h = lax.stop_gradient(wide) * _spread(roots, wide)
    q = batch_power.mean_square(h, mask, otherwise=phi)
  elif mask is not None:
    # x is 0 where there is padding, and so is h.
    real = batch_power.size(x, mask)
    size = jnp.maximum(real, 1)
    power = total / size
    q = jnp.where(real > 0, power, phi)
  steps = stats["steps"] + 1
  t = steps.astype(wide.dtype)
  y = _normalize(
    backward_momentum,
    x,
    variables["params"],
    _Step(
      roots=roots,
      forward=lax.rsqrt(jnp.where(steps <= warmup_steps, q, phi) + eps),
      backward=lax.rsqrt(q + eps),
      power=power,
      size=size,
    ),
    grad_stats["ema_gz"],
  )
  new = jnp.where(steps < warmup_steps, phi * (t - 1) / t + q / t, phi)
  new = forward_momentum * new + (1 - forward_momentum) * q
  phi = moments.finite_or(new, phi).astype(stats["running_phi"].dtype)
  y = cast(Array, y)
  if mask is not None and size is not None:
    # No gradient of padding comes back.
    y = base.hide(y, mask)
  return y, {"running_phi": phi, "steps": steps}


def _reciprocal_roots(x: Array, num_groups: int, eps: float) -> Array:
  """1 / the quadratic mean of every group, (…, groups, 1)."""
  groups = moments.split_groups(x, num_groups)
  return lax.rsqrt(moments.mean_square(groups, axes=(-1,)) + eps)


def _spread(statistic: Array, x: Array) -> Array:
  """A statistic of groups, (…, groups, 1), for every channel of x."""
  size = x.shape[-1] // statistic.shape[-2]
  shape = (*statistic.shape[:-1], size)
  return jnp.broadcast_to(statistic, shape).reshape(x.shape)


def _power_and_roots(
  x: Array, num_groups: int, eps: float
) -> tuple[Array, Array]:
  """sum(h^2) of each channel over all positions, and what makes h of x."""

  def statistics(x):
    wide = moments.promote(x)
    roots = _reciprocal_roots(wide, num_groups, eps)
    return jnp.sum(jnp.square(wide * _spread(roots, wide)), axis=0), roots

  total, roots = blocks.reduce(statistics, _flat(x))
  return total, roots.reshape(*x.shape[:-1], num_groups, 1)


def _flat(x: Array) -> Array:
  return x.reshape(-1, x.shape[-1])


class _Step(NamedTuple):
  """What the forward pass knows; the gradient of `roots` is part of ours."""

  roots: Array  # (…, groups, 1), what x is multiplied by, which gives h.
  forward: Array  # (c,), what h is multiplied by.
  backward: Array  # (c,), what the gradient is multiplied by.
  power: Array  # (c,), mean(h^2) over the positions of the backward means.
  size: Array | None  # (), how many those are; None for all.


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _normalize(
  momentum: float,
  x: Array,
  params: Mapping[str, Array],
  step: _Step,
  ema_gz: Array,
) -> Array:
  """The output in the dtype of x, with the gradient of arXiv:2003.07845.

  One function from x to y, so that the backward pass needs x alone and takes
  both sums over tokens, of `scale` and of ema_gz, at once.
  """
  del momentum, ema_gz
  z = moments.promote(x) * _spread(step.roots, x) * step.forward
  return affine.apply(z, params).astype(x.dtype)


def _normalize_forward(momentum, x, params, step, ema_gz):
  y = _normalize(momentum, x, params, step, ema_gz)
  return y, (x, params, step, ema_gz)


def _normalize_backward(momentum, residuals, dy):
  x, params, step, ema_gz = blocks.unfused(residuals[0], residuals)
  dtype = jnp.promote_types(dy.dtype, jnp.float32)
  scale = params["scale"].astype(dtype)
  old = ema_gz.astype(dtype)
  nu = (1 - momentum) * old * step.forward

  def h_and_gradient(x, dy, roots):
    # g' = dy scale - nu h, and z = h forward.
    h = moments.promote(x) * _spread(roots, x)
    return h, (moments.promote(dy) * scale - nu * h) * step.backward

  def statistics(x, dy, roots):
    h, dh = h_and_gradient(x, dy, roots)
    groups = (*x.shape[:-1], roots.shape[-2], -1)
    inner = jnp.mean((dh * h).reshape(groups), axis=-1, keepdims=True)
    dy = moments.promote(dy)
    return (jnp.sum(dy * h, axis=0), jnp.sum(dy, axis=0)), inner

  flat_roots = step.roots.reshape(-1, *step.roots.shape[-2:])
  arrays = _flat(x), _flat(dy), flat_roots
  (dy_h, dbias), inner = blocks.reduce(statistics, *arrays)
  h, dh = h_and_gradient(*arrays)
  dx = (dh - h * _spread(inner, h)) * _spread(flat_roots, h)
  count = math.prod(x.shape[:-1]) if step.size is None else step.size
  new = old + step.forward * (scale * dy_h / count - nu * step.power)
  gradients = {"scale": step.forward * dy_h, "bias": dbias}
  return (
    dx.reshape(x.shape).astype(x.dtype),
    {name: gradients[name].astype(params[name].dtype) for name in params},
    None,
    moments.finite_or(new, old).astype(ema_gz.dtype),
  )


_normalize.defvjp(_normalize_forward, _normalize_backward)
