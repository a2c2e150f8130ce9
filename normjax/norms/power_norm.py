"""PowerNorm: Shen, Yao, Gholami, Mahoney, Keutzer 2020, arXiv:2003.07845."""

import functools
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import lax

from normjax import errors
from normjax.norms import affine, base, batch_power, moments
from normjax.types import Array


def power_norm(
  num_groups: int = 1,
  warmup_steps: int = 10_000,
  forward_momentum: float = 0.9,
  backward_momentum: float = 0.9,
  eps: float = 1e-5,
) -> base.Norm:
  """PowerNorm: division by a running quadratic mean of the batch.

      h = x / sqrt(mean(x^2 of the token's group) + eps)
      q = mean(h^2) of a channel over all tokens
      z = h / sqrt((q if t <= warmup_steps else phi) + eps)
      phi <- phi (t - 1) / t + q / t             while t < warmup_steps
      phi <- forward_momentum phi + (1 - forward_momentum) q       always
      y = z * scale + bias

  with t = 1, 2, … the training calls, of a train step its optimizer steps.
  Evaluation divides h by sqrt(phi + eps): the groups stay live. The backward
  pass is not the derivative. With g the gradient of z,

      g' = g - (1 - backward_momentum) ema_gz z
      dh = g' / sqrt(q + eps)
      ema_gz <- ema_gz + mean(g' z)

  arXiv:2003.07845, algorithms 1 and 2, as the official fairseq fork computes
  them: it adds the groups and the warm-up, in which phi moves twice a step,
  and divides the gradient by the batch's q throughout. Both eps stand inside
  the square root. Statistics are float32 (float64 for float64; the official
  code keeps the input's dtype) and, under jit over a sharded batch, those of
  the whole batch (there: of one device). A mask leaves padding out of q; as in
  the official code the means of the backward pass run over all positions, so
  padding must be finite. Where a mask leaves nothing, q is phi.

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

  Raises:
    UserError: an option out of range; groups that do not divide the features;
      from `apply`, missing statistics or a training batch of one token.
  """
  name = "power_norm"
  base.check_integer(name, "num_groups", num_groups, least=1)
  base.check_integer(name, "warmup_steps", warmup_steps, least=0)
  base.check_number(name, "forward_momentum", forward_momentum, least=0, most=1)
  base.check_number(
    name, "backward_momentum", backward_momentum, least=0, most=1
  )
  base.check_number(name, "eps", eps, above=0)
  return base.Norm(
    name=name,
    options={
      "num_groups": num_groups,
      "warmup_steps": warmup_steps,
      "forward_momentum": forward_momentum,
      "backward_momentum": backward_momentum,
      "eps": eps,
    },
    traits=base.NormTraits(
      statistics="batch", scale_invariant=True, needs_train_flag=True
    ),
    init_fn=_init,
    apply_fn=_apply,
  )


def _init(shape, dtype, *, num_groups: int, **_: Any):
  if shape[-1] % num_groups:
    raise errors.UserError(
      f"power_norm: num_groups={num_groups} must divide the {shape[-1]}"
      " features."
    )
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
  train: bool,
  mask: Array | None,
  num_groups: int,
  warmup_steps: int,
  forward_momentum: float,
  backward_momentum: float,
  eps: float,
  **_: Any,
):
  base.check_held("power_norm", variables, "stats", ("running_phi", "steps"))
  stats, grad_stats = variables["stats"], variables["grad_stats"]
  base.check_features("power_norm", x, stats["running_phi"].size)
  h = _scale_groups(moments.promote(x), num_groups, eps)
  phi = stats["running_phi"].astype(h.dtype)
  if not train:
    y = affine.apply(h * lax.rsqrt(phi + eps), variables["params"])
    y = y.astype(x.dtype)
    return (batch_power.hold(y, grad_stats) if grad_stats else y), stats

  base.check_held("power_norm", variables, "grad_stats", ("ema_gz",))
  base.check_batch("power_norm", x)
  q = batch_power.mean_square(h, mask, otherwise=phi)
  steps = stats["steps"] + 1
  t = steps.astype(h.dtype)
  divisor = jnp.where(steps <= warmup_steps, q, phi)
  z = _normalize(
    backward_momentum,
    h,
    lax.rsqrt(divisor + eps),
    lax.rsqrt(q + eps),
    grad_stats["ema_gz"],
  )
  y = affine.apply(cast(Array, z), variables["params"])
  phi = jnp.where(steps < warmup_steps, phi * (t - 1) / t + q / t, phi)
  phi = forward_momentum * phi + (1 - forward_momentum) * q
  phi = phi.astype(stats["running_phi"].dtype)
  return y.astype(x.dtype), {"running_phi": phi, "steps": steps}


def _scale_groups(x: Array, num_groups: int, eps: float) -> Array:
  groups = x.reshape(*x.shape[:-1], num_groups, x.shape[-1] // num_groups)
  power = moments.mean_square(groups, axes=(-1,))
  return (groups * lax.rsqrt(power + eps)).reshape(x.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _normalize(
  momentum: float, h: Array, forward: Array, backward: Array, ema_gz: Array
) -> Array:
  """Multiplies h by `forward`, and the gradient by another statistic.

  Args:
    momentum: of the backward pass.
    h: (…, c).
    forward: (c,), what h is multiplied by.
    backward: (c,), what the gradient is multiplied by.
    ema_gz: (c,), the statistic of the backward pass.
  """
  del momentum, backward, ema_gz
  return h * forward


def _normalize_forward(momentum, h, forward, backward, ema_gz):
  z = _normalize(momentum, h, forward, backward, ema_gz)
  return z, (z, backward, ema_gz)


def _normalize_backward(momentum, residuals, g):
  z, backward, ema_gz = residuals
  old = ema_gz.astype(z.dtype)
  g = g - (1 - momentum) * old * z
  new = old + batch_power.mean_product(g, z)
  return g * backward, None, None, new.astype(ema_gz.dtype)


_normalize.defvjp(_normalize_forward, _normalize_backward)
