"""EvoNorm-B0, B1, B2: Liu, Brock, Simonyan, Le 2020, arXiv:2004.02967."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax.numpy as jnp

from normjax.norms import affine, base, moments, running
from normjax.types import Array

Variance = Literal["biased", "unbiased"]


def evonorm_b0(
  momentum: float = 0.9,
  eps: float = 1e-5,
  running_variance: Variance = "biased",
  nonlinearity: bool = True,
) -> base.Norm:
  """EvoNorm-B0: norm and activation in one, with variances of batch and image.

      y = x / max(sqrt(var_B + eps), v x + sqrt(var_I + eps)) * scale + bias
      running <- momentum * running + (1 - momentum) * batch

  arXiv:2004.02967. var_B is the variance of a channel over the batch, in
  evaluation the running one, and var_I that of one channel of one image; both
  are biased. `v` is one parameter a channel, 1 at first. No mean is subtracted
  and none runs. The official code asks for networks whose norms stand before
  the convolutions (pre-activation).

  Statistics are float32 (float64 for float64), two passes; under jit over a
  sharded batch var_B is that of the whole batch. Masks act on var_B only.

  Args:
    momentum: weighs the old running value, in [0, 1].
    eps: inside the square roots, > 0: 1e-5 as in the official code; timm's
      B0 has 1e-3.
    running_variance: what enters the running variance: "biased" (the official
      code), or "unbiased", divided by n - 1 (timm).
    nonlinearity: False leaves only the scale and the bias, without statistics
      or `v`: what the official code has where no activation follows, and what
      `without_activation` is.

  Raises:
    UserError: an option out of range; from `apply`, an x that is not images, a
      training batch of one value a channel, or missing statistics.
  """
  return _make(
    "evonorm_b0",
    _init_b0,
    _apply_b0,
    momentum,
    eps,
    running_variance,
    nonlinearity,
  )


def evonorm_b1(
  momentum: float = 0.9,
  eps: float = 1e-5,
  running_variance: Variance = "biased",
  nonlinearity: bool = True,
) -> base.Norm:
  """EvoNorm-B1, which has no `v` and the power of an image's channel.

      y = x / max(sqrt(var_B + eps), (x + 1) sqrt(mean_I(x^2) + eps))
          * scale + bias

  arXiv:2004.02967, as public re-implementations (timm) read it: the official
  code has B0 and S0 only. The rest is as in `evonorm_b0`.

  Args:
    momentum: see `evonorm_b0`.
    eps: inside both square roots, > 0.
    running_variance: see `evonorm_b0`.
    nonlinearity: see `evonorm_b0`.

  Raises:
    UserError: see `evonorm_b0`.
  """
  return _make(
    "evonorm_b1",
    _init,
    _apply_b1,
    momentum,
    eps,
    running_variance,
    nonlinearity,
    # x + 1 has a scale.
    scale_invariant=False,
  )


def evonorm_b2(
  momentum: float = 0.9,
  eps: float = 1e-5,
  running_variance: Variance = "biased",
  nonlinearity: bool = True,
) -> base.Norm:
  """EvoNorm-B2, which has no `v` and the power of an image's channel.

      y = x / max(sqrt(var_B + eps), sqrt(mean_I(x^2) + eps) - x)
          * scale + bias

  arXiv:2004.02967, as public re-implementations (timm) read it: the official
  code has B0 and S0 only. The rest is as in `evonorm_b0`.

  Args:
    momentum: see `evonorm_b0`.
    eps: inside both square roots, > 0.
    running_variance: see `evonorm_b0`.
    nonlinearity: see `evonorm_b0`.

  Raises:
    UserError: see `evonorm_b0`.
  """
  return _make(
    "evonorm_b2",
    _init,
    _apply_b2,
    momentum,
    eps,
    running_variance,
    nonlinearity,
    # sqrt(mean(x^2)) - x cancels as one-pass variances do.
    one_pass=True,
  )


def _make(
  name: str,
  init: Callable[..., Any],
  apply: Callable[..., Any],
  momentum: float,
  eps: float,
  running_variance: str,
  nonlinearity: bool,
  *,
  scale_invariant: bool = True,
  one_pass: bool = False,
) -> base.Norm:
  base.check_number(name, "momentum", momentum, least=0, most=1)
  base.check_number(name, "eps", eps, above=0)
  base.check_choice(
    name, "running_variance", running_variance, ("biased", "unbiased")
  )
  options = {
    "momentum": momentum,
    "eps": eps,
    "running_variance": running_variance,
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
      statistics="batch",
      scale_invariant=scale_invariant,
      needs_train_flag=True,
      spatial_only=True,
      contains_activation=True,
      one_pass=one_pass,
    ),
    init_fn=init,
    apply_fn=apply,
    without_activation_fn=without,
  )


def _init(shape, dtype, **_: Any):
  return {
    "params": affine.init(shape, dtype),
    "stats": running.start(shape, dtype, var=1),
  }


def _init_b0(shape, dtype, **options: Any):
  made = _init(shape, dtype, **options)
  made["params"]["v"] = jnp.ones(shape[-1:], dtype)
  return made


def _image_power(x: Array, eps: float) -> Array:
  """Root of the mean square of each channel of each image, (b, 1, 1, c)."""
  return jnp.sqrt(moments.mean_square(x, axes=(1, 2)) + eps)


def _image_spread(x: Array, eps: float) -> Array:
  """Standard deviation of each channel of each image, (b, 1, 1, c)."""
  return jnp.sqrt(moments.mean_and_variance(x, axes=(1, 2))[1] + eps)


def _divisor_b0(x: Array, eps: float, params: Mapping[str, Array]) -> Array:
  return params["v"].astype(x.dtype) * x + _image_spread(x, eps)


def _divisor_b1(x: Array, eps: float, params: Mapping[str, Array]) -> Array:
  del params
  return (x + 1) * _image_power(x, eps)


def _divisor_b2(x: Array, eps: float, params: Mapping[str, Array]) -> Array:
  del params
  return _image_power(x, eps) - x


def _apply(
  name: str,
  divisor: Callable[[Array, float, Mapping[str, Array]], Array],
  variables: base.Variables,
  x: Array,
  *,
  train: bool,
  mask: Array | None,
  momentum: float,
  eps: float,
  running_variance: str,
  **_: Any,
):
  stats, params = variables["stats"], variables["params"]
  base.check_images(name, x)
  base.check_held(name, variables, "stats", ("var",))
  base.check_features(name, x, stats["var"].size)
  wide = moments.promote(x)
  variance = stats["var"].astype(wide.dtype)
  if train:
    batch = running.measure(name, wide, mask)
    variance = batch.variance
    new = {"var": batch.kept(running_variance)}
    stats = running.advance(stats, new, momentum, batch.size)
  spread = jnp.sqrt(variance + eps)
  normalized = wide / jnp.maximum(spread, divisor(wide, eps, params))
  return affine.apply(normalized, params).astype(x.dtype), stats


def _apply_b0(variables: base.Variables, x: Array, **given: Any):
  return _apply("evonorm_b0", _divisor_b0, variables, x, **given)


def _apply_b1(variables: base.Variables, x: Array, **given: Any):
  return _apply("evonorm_b1", _divisor_b1, variables, x, **given)


def _apply_b2(variables: base.Variables, x: Array, **given: Any):
  return _apply("evonorm_b2", _divisor_b2, variables, x, **given)
