"""EvoNorm-S0, S1, S2: Liu, Brock, Simonyan, Le 2020, arXiv:2004.02967."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from normjax.norms import affine, base, moments
from normjax.types import Array


def evonorm_s0(
  num_groups: int = 32, eps: float = 1e-5, nonlinearity: bool = True
) -> base.Norm:
  """EvoNorm-S0: norm and activation in one, with an image's group variance.

      y = x sigmoid(v x) / sqrt(var_G + eps) * scale + bias

  arXiv:2004.02967. var_G is the biased variance of a group of neighbouring
  channels at all pixels of one image; no mean is subtracted. `v` is one
  parameter a channel, 1 at first. The official code asks for networks whose
  norms stand before the convolutions (pre-activation). Statistics are float32
  (float64 for float64), two passes. Masks are not read.

  Args:
    num_groups: >= 1, divides the channels. The official code counts down from
      32 until it does; here, as in timm, that is for the caller to do.
    eps: inside the square root, > 0.
    nonlinearity: False leaves only the scale and the bias, without statistics
      or `v`: what the official code has where no activation follows, and what
      `without_activation` is. Groups then need not divide.

  Raises:
    UserError: an option out of range; groups that do not divide the channels;
      from `apply`, an x that is not images.
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
  base.check_integer(name, "num_groups", num_groups, least=1)
  base.check_number(name, "eps", eps, above=0)
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
      statistics="per_example", spatial_only=True, contains_activation=True
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


def _variance(grouped: Array) -> Array:
  return moments.mean_and_variance(grouped, axes=(1, 2, 4))[1]


def _power(grouped: Array) -> Array:
  return moments.mean_square(grouped, axes=(1, 2, 4))


def _apply(
  name: str,
  statistic: Callable[[Array], Array],
  variables: base.Variables,
  x: Array,
  *,
  num_groups: int,
  eps: float,
  **_: Any,
):
  params = variables["params"]
  base.check_images(name, x)
  base.check_groups(name, num_groups, x.shape[-1])
  affine.check(name, x, params)
  wide = moments.promote(x)
  v = params["v"].astype(wide.dtype) if "v" in params else 1
  swish = moments.split_groups(wide * jax.nn.sigmoid(v * wide), num_groups)
  spread = statistic(moments.split_groups(wide, num_groups))
  normalized = (swish * lax.rsqrt(spread + eps)).reshape(x.shape)
  return affine.apply(normalized, params).astype(x.dtype), variables["stats"]


def _apply_s0(variables: base.Variables, x: Array, **given: Any):
  return _apply("evonorm_s0", _variance, variables, x, **given)


def _apply_s1(variables: base.Variables, x: Array, **given: Any):
  return _apply("evonorm_s1", _variance, variables, x, **given)


def _apply_s2(variables: base.Variables, x: Array, **given: Any):
  return _apply("evonorm_s2", _power, variables, x, **given)
