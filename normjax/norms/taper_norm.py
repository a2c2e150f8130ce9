"""A norm that fades into a fixed gain: arXiv:2602.10408.

Read: the abstract and the introduction of both versions. Formulas are from a
summary of the paper, second-hand.
"""

from typing import Any

import jax.numpy as jnp
from jax import lax

from normjax import validate
from normjax.norms import affine, base, fake_layer_norm, modes, moments
from normjax.types import Array

NAME = "taper_norm"


def taper_norm(
  eps: float = 1e-5,
  momentum: float = 0.99,
  use_bias: bool = False,
  centred: bool = False,
) -> base.Norm:
  """TaperNorm: an RMS norm whose share g falls to 0 while it is trained.

      y = g gamma x r + (1 - g) c gamma2 x,    r = 1 / sqrt(mean(x^2) + eps)
      c = E[|gamma x|^2 r] / E[|gamma x|^2],   of g = 1

  gamma is the parameter `scale`. Until `taper_from` g is 1, the two means of c
  are exponential averages over training steps, and gamma2 is gamma; then c
  stands still, gamma2 goes its own way, and g falls to 0 along half a cosine
  in `taper_steps` steps. What is left, c gamma2, is linear: `convert.fold`
  folds it. When, arrays among the statistics say (`step`, `taper_from`,
  `taper_steps`), so that one program serves the whole schedule;
  `convert.taper_norms` sets them.

  c is the least-squares fit of c gamma x to gamma x r. gamma2 is held as
  `tail_offset`, a parameter that starts at 0, plus the statistic `tail_scale`,
  gamma as it was at `taper_from`: to gradients that is gamma2.

  The paper tapers the norms inside of blocks, and keeps the final one, which
  holds the scale of the logits.

  Args:
    eps: inside the square root, > 0; not said in what was read.
    momentum: of the averages of c, in [0, 1]; the first step's is taken as it
      is.
    use_bias: whether there is an offset at the end of both forms. That there
      are affine ones is said; its form is our reading.
    centred: whether x is x - mean(x), for layer norms, whose mean then stays.
      Our reading.

  Raises:
    UserError: an option out of range.
  """
  validate.number(NAME, "eps", eps, above=0)
  validate.number(NAME, "momentum", momentum, least=0, most=1)
  validate.flags(NAME, use_bias=use_bias, centred=centred)
  return base.Norm(
    name=NAME,
    options={
      "eps": eps,
      "momentum": momentum,
      "use_bias": use_bias,
      "centred": centred,
    },
    traits=base.NormTraits(statistics="per_example"),
    init_fn=_init,
    apply_fn=_apply,
    is_linear_fn=_is_linear,
  )


def _init(shape, dtype, *, use_bias: bool, **_: Any):
  params = affine.init(shape, dtype, use_bias=use_bias)
  zero = jnp.zeros((), jnp.float32)
  return {
    "params": params | {"tail_offset": jnp.zeros(shape[-1:], dtype)},
    "stats": {
      "step": jnp.zeros((), jnp.int32),
      "taper_from": jnp.full((), fake_layer_norm.NEVER, jnp.int32),
      "taper_steps": jnp.ones((), jnp.int32),
      "numerator": zero,
      "denominator": zero,
      "tail_scale": jnp.ones(shape[-1:], jnp.float32),
    },
  }


def _apply(
  variables: base.Variables,
  x: Array,
  *,
  mode: modes.Mode,
  mask: Array | None,
  eps: float,
  momentum: float,
  centred: bool,
  **_: Any,
):
  del mode  # `Norm.apply` keeps the statistics where they are not to move.
  stats, params = variables["stats"], variables["params"]
  base.check_variables(NAME, variables, "stats", ("step", "taper_from"))
  affine.check(NAME, x, params)
  wide = moments.promote(x)
  centre, squares = fake_layer_norm.centre_and_squares(wide, centred)
  r = lax.rsqrt(squares + eps)
  scale = params["scale"].astype(wide.dtype)
  share = gate(stats).astype(wide.dtype)
  tail = stats["tail_scale"] + params["tail_offset"]
  tail = tail.astype(wide.dtype) * _factor(stats).astype(wide.dtype)
  y = share * (centre * r * scale) + (1 - share) * (centre * tail)
  bias = {"bias": params["bias"]} if "bias" in params else {}
  y = affine.apply(y, bias).astype(x.dtype)
  moved = _advance(stats, lax.stop_gradient((centre, r, scale)), mask, momentum)
  return y, moved


def gate(stats) -> Array:
  """G at the step of the statistics: 1, then half a cosine, then 0."""
  dtype = stats["denominator"].dtype
  steps = (stats["step"] - stats["taper_from"]).astype(dtype)
  gone = steps / stats["taper_steps"].astype(dtype)
  return (1 + jnp.cos(jnp.pi * jnp.clip(gone, 0.0, 1.0))) / 2


def _factor(stats) -> Array:
  """c; 1 before anything was measured."""
  there = stats["denominator"] > 0
  divisor = jnp.where(there, stats["denominator"], 1.0)
  return jnp.where(there, stats["numerator"] / divisor, 1.0)


def _advance(stats, measured, mask, momentum: float) -> dict[str, Array]:
  """The statistics after a training step."""
  centre, r, scale = measured
  step = stats["step"]
  weight = jnp.where(step == 0, 0.0, momentum)
  power = jnp.sum(jnp.square(scale * centre), axis=-1, keepdims=True)
  real = jnp.ones((1,) * power.ndim, bool)
  if mask is not None:
    real = moments.broadcast_mask(mask, power)
  real = jnp.broadcast_to(real, power.shape)
  count = jnp.sum(real)
  is_frozen = step >= stats["taper_from"]

  def moved(name: str, values: Array) -> Array:
    old = stats[name]
    found = jnp.sum(jnp.where(real, values, 0)) / jnp.maximum(count, 1)
    new = (weight * old + (1 - weight) * found).astype(old.dtype)
    stays = is_frozen | (count == 0) | ~jnp.isfinite(found)
    return jnp.where(stays, old, new)

  tail = stats["tail_scale"]
  return {
    **stats,
    "step": step + 1,
    "numerator": moved("numerator", power * r),
    "denominator": moved("denominator", power),
    # At `taper_from` itself 1 - g is 0: what is copied there is used later.
    "tail_scale": jnp.where(
      step > stats["taper_from"], tail, scale.astype(tail.dtype)
    ),
  }


def _is_linear(variables: base.Variables) -> Array:
  """Whether g is 0."""
  stats = variables["stats"]
  return stats["step"] >= stats["taper_from"] + stats["taper_steps"]
