"""EvoNorm-S0, S1, S2: Liu, Brock, Simonyan, Le 2020, arXiv:2004.02967."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import lax

from kernels_pallas import blocks
from normjax import validate
from normjax.norms import affine, base, channel_groups, moments
from normjax.types import Array


def evonorm_s0(
  num_groups: int = 32, eps: float = 1e-5, nonlinearity: bool = True
) -> base.Norm:
  """EvoNorm-S0: norm and activation in one, with an image's group variance.

      y = x sigmoid(v x) / sqrt(var_G + eps) * scale + bias

  arXiv:2004.02967. var_G is the biased variance of a group of neighbouring
  channels at all pixels of one image; no mean is subtracted. `v` is one
  parameter per channel, 1 at first. The official code asks for networks whose
  norms stand before the convolutions (pre-activation). Statistics are float32
  (float64 for float64), two passes, of what a mask leaves. Sequences (b, t, c)
  are images of one column.

  Args:
    num_groups: >= 1, divides the channels. The official code counts down from
      32 until it does; here, as in timm, that is for the caller to do.
    eps: inside the square root, > 0.
    nonlinearity: False leaves only the scale and the bias, without statistics
      or `v`: what the official code has where no activation follows, and what
      `without_activation` is. Groups then need not divide.

  Raises:
    UserError: an option out of range; groups that do not divide the channels;
      from `apply`, an x that is neither images nor sequences.
  """
  return _make("evonorm_s0", _init_s0, _apply_s0, num_groups, eps, nonlinearity)


def evonorm_s1(
  num_groups: int = 32, eps: float = 1e-5, nonlinearity: bool = True
) -> base.Norm:
  """EvoNorm-S1: EvoNorm-S0 without `v`.

      y = x sigmoid(x) / sqrt(var_G + eps) * scale + bias

  arXiv:2004.02967, as public re-implementations (timm) read it: the official
  code has B0 and S0 only.

  Args:
    num_groups: >= 1, divides the channels.
    eps: inside the square root, > 0.
    nonlinearity: see `evonorm_s0`.

  Raises:
    UserError: see `evonorm_s0`.
  """
  return _make("evonorm_s1", _init, _apply_s1, num_groups, eps, nonlinearity)


def evonorm_s2(
  num_groups: int = 32, eps: float = 1e-5, nonlinearity: bool = True
) -> base.Norm:
  """EvoNorm-S2: EvoNorm-S1 by a group's power instead of its variance.

      y = x sigmoid(x) / sqrt(mean_G(x^2) + eps) * scale + bias

  arXiv:2004.02967, as public re-implementations (timm) read it: the official
  code has B0 and S0 only.

  Args:
    num_groups: >= 1, divides the channels.
    eps: inside the square root, > 0.
    nonlinearity: see `evonorm_s0`.

  Raises:
    UserError: see `evonorm_s0`.
  """
  return _make("evonorm_s2", _init, _apply_s2, num_groups, eps, nonlinearity)


def _make(
  name: str,
  init: Callable[..., Any],
  apply: Callable[..., Any],
  num_groups: int,
  eps: float,
  nonlinearity: bool,
) -> base.Norm:
  validate.count(name, "num_groups", num_groups, least=1)
  validate.number(name, "eps", eps, above=0)
  validate.flags(name, nonlinearity=nonlinearity)
  options = {
    "num_groups": num_groups,
    "eps": eps,
    "nonlinearity": nonlinearity,
  }
  without = functools.partial(
    affine.only, name, {**options, "nonlinearity": False}
  )
  if not nonlinearity:
    return without()
  return base.Norm(
    name=name,
    options=options,
    traits=base.NormTraits(
      statistics="per_example", mixes_positions=True, contains_activation=True
    ),
    init_fn=init,
    apply_fn=apply,
    without_activation_fn=without,
  )


def _init(shape, dtype, *, num_groups: int, **_: Any):
  base.check_groups("evonorm", num_groups, shape[-1])
  return {"params": affine.init(shape, dtype)}


def _init_s0(shape, dtype, **options: Any):
  made = _init(shape, dtype, **options)
  made["params"]["v"] = jnp.ones(shape[-1:], dtype)
  return made


def _apply(
  name: str,
  centered: bool,
  variables: base.Variables,
  x: Array,
  *,
  mask: Array | None,
  num_groups: int,
  eps: float,
  **_: Any,
):
  params = variables["params"]
  base.check_positions(name, x)
  base.check_groups(name, num_groups, x.shape[-1])
  affine.check(name, x, params)
  images = channel_groups.as_images(x)
  wide = moments.promote(images)
  measure = functools.partial(_center_and_r, centered, num_groups, eps)
  if mask is None:
    center, r = measure(lax.stop_gradient(wide))
    y = cast(Array, _normalize(num_groups, measure, images, params, center, r))
  else:
    r = measure(wide, mask)[1]
    y = _scaled_swish(wide, params, r).astype(x.dtype)
  return y.reshape(x.shape), variables["stats"]


def _center_and_r(
  centered: bool,
  num_groups: int,
  eps: float,
  x: Array,
  mask: Array | None = None,
) -> tuple[Array, Array]:
  """The mean of a group or 0, and what x is multiplied by, (b, 1, 1, c)."""
  x = moments.promote(x)
  center, square = channel_groups.mean_and_variance(x, num_groups, mask)
  if not centered:
    center, square = jnp.zeros_like(center), square + jnp.square(center)
  return center, lax.rsqrt(square + eps)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _normalize(
  num_groups: int,
  measure: Callable[[Array], tuple[Array, Array]],
  x: Array,
  params: Mapping[str, Array],
  center: Array,
  r: Array,
) -> Array:
  """(x sigmoid(v x)) r, scaled and shifted.

  Its gradient is that through r too, by whose center (b, 1, 1, c) it goes.
  `measure` makes both of x.
  """
  del num_groups, measure, center
  return _scaled_swish(moments.promote(x), params, r).astype(x.dtype)


def _scaled_swish(x: Array, params: Mapping[str, Array], r: Array) -> Array:
  swish = x * jax.nn.sigmoid(_slope(params, x) * x)
  return affine.apply(swish * r, params)


def _slope(params: Mapping[str, Array], x: Array) -> Array:
  return params["v"].astype(x.dtype) if "v" in params else jnp.ones((), x.dtype)


def _normalize_forward(num_groups, measure, x, params, center, r):
  del num_groups
  center, r = moments.known(measure, x, (center, r))
  y = _scaled_swish(moments.promote(x), params, r).astype(x.dtype)
  return y, (x, params, center, r)


def _normalize_backward(num_groups, measure, residuals, dy):
  """With s = x sigmoid(v x), g = scale r and n values in a group:

  dx = dy g s' - (x - center) r^3 / n sum_G(dy scale s)
  dv = sum(dy g x^2 sigmoid' (v x))
  """
  del measure
  x, params, center, r = blocks.unfused(residuals[0], residuals)
  scale, v = params["scale"].astype(r.dtype), _slope(params, r)

  def parts(x, dy):
    wide = moments.promote(x)
    return wide, moments.promote(dy), jax.nn.sigmoid(v * wide)

  def sums(x, dy):
    wide, cotangent, gate = parts(x, dy)
    swish = cotangent * wide * gate
    return [
      jnp.sum(term, (1, 2), keepdims=True)
      for term in (cotangent, swish, swish * wide * (1 - gate))
    ]

  dbias, along, dv = blocks.by_image(sums, x, dy)
  size = x.shape[1] * x.shape[2] * (x.shape[3] // num_groups)
  by_group = channel_groups.over_groups(jnp.sum, scale * along, num_groups)
  by_group *= r**3 / size
  gain, by_group = blocks.unfused(x, (scale * r, by_group))
  wide, cotangent, gate = parts(x, dy)
  dx = cotangent * gain * gate * (1 + v * wide * (1 - gate))
  dx -= (wide - center) * by_group
  gradients = {"scale": along * r, "bias": dbias, "v": dv * gain}
  gradients = {
    name: jnp.sum(gradients[name], (0, 1, 2)).astype(params[name].dtype)
    for name in params
  }
  return dx.astype(x.dtype), gradients, None, None


_normalize.defvjp(_normalize_forward, _normalize_backward)


def _apply_s0(variables: base.Variables, x: Array, **given: Any):
  return _apply("evonorm_s0", True, variables, x, **given)


def _apply_s1(variables: base.Variables, x: Array, **given: Any):
  return _apply("evonorm_s1", True, variables, x, **given)


def _apply_s2(variables: base.Variables, x: Array, **given: Any):
  return _apply("evonorm_s2", False, variables, x, **given)
