"""Weight standardization, arXiv:1903.10520; its scaled form, arXiv:2101.08692.

A filter is all weights of one output: every axis but the last.
"""

import math
from typing import Any, Literal

import jax.numpy as jnp
from jax import lax

from normjax import validate
from normjax.norms import modes, moments
from normjax.norms.weights import base
from normjax.types import Array

# By variant: whether the variance is divided by n - 1, where eps stands, and
# eps.
_VARIANTS = {
  "unbiased_std": (True, "outside", 1e-5),
  "biased_std": (False, "outside", 1e-5),
  "unbiased_variance": (True, "inside", 1e-5),
  "biased_variance": (False, "inside", 1e-6),
}
# By variant of the scaled form: its own eps.
SCALED_EPS = {"floor": 1e-4, "added": 1e-6}


def weight_standardization(
  variant: Literal[
    "unbiased_std", "biased_std", "unbiased_variance", "biased_variance"
  ] = "unbiased_std",
  eps: float | None = None,
) -> base.WeightNorm:
  """Weight standardization: each filter has mean 0 and standard deviation 1.

      w' = (w - mean) / s

  arXiv:1903.10520. Its authors' codes, and others', take different s, with n
  weights in a filter:

  - "unbiased_std": std + eps, the variance divided by n - 1, eps 1e-5: the
    PyTorch layer of joe-siyuan-qiao/WeightStandardization, its README.
  - "biased_std": std + eps, divided by n, eps 1e-5: the TensorFlow layer
    there.
  - "unbiased_variance": sqrt(variance + eps), divided by n - 1, eps 1e-5:
    joe-siyuan-qiao/Batch-Channel-Normalization, imagenet/models/layers.py.
  - "biased_variance": sqrt(variance + eps), divided by n, eps 1e-6: timm's
    StdConv2d.

  The first two differ by sqrt(n / (n - 1)). It is the same in training and
  evaluation; gradients go through mean and s. It is meant for layers that a
  norm follows: w' has n times the energy of a kernel of variance 1 / n.
  Statistics are float32 (float64 for float64), two passes.

  Args:
    variant: which s.
    eps: > 0; None: the variant's own.

  Raises:
    UserError: an option out of range; from `init` and `apply`, fewer than two
      weights in a filter.
  """
  name = "weight_standardization"
  validate.choice(name, "variant", variant, tuple(_VARIANTS))
  eps = _VARIANTS[variant][2] if eps is None else eps
  validate.number(name, "eps", eps, above=0)
  return base.WeightNorm(
    name=name,
    options={"variant": variant, "eps": eps},
    init_fn=_init_nothing,
    apply_fn=_standardize,
    least_fan_in=2,
  )


def scaled_weight_standardization(
  variant: Literal["floor", "added"] = "floor",
  eps: float | None = None,
  factor: float = 1.0,
) -> base.WeightNorm:
  """Scaled weight standardization: variance 1 / n, and a learned gain.

      w' = factor * gain * (w - mean) / sqrt(max(n * var, eps))    "floor"
      w' = factor * gain * (w - mean) / sqrt(n * (var + eps))      "added"

  arXiv:2101.08692, with the biased variance of the n weights of a
  filter. "floor" is the authors' code (deepmind-research nfnets/base.py,
  WSConv2D), eps 1e-4: a floor under n * var, not added. "added" is timm's
  ScaledStdConv2d, eps 1e-6 by default, and 1e-5 in its networks. Statistics
  are float32 (float64 for float64), two passes.

  One parameter: `gain` (o,), 1 at first.

  Args:
    variant: how eps enters.
    eps: > 0; None: the variant's own.
    factor: > 0; the gain of the activation that goes with it, where that is in
      the kernels and not in the activation (timm's gamma).

  Raises:
    UserError: an option out of range; from `init` and `apply`, fewer than two
      weights in a filter, or a gain of another kernel.
  """
  name = "scaled_weight_standardization"
  validate.choice(name, "variant", variant, tuple(SCALED_EPS))
  eps = SCALED_EPS[variant] if eps is None else eps
  validate.number(name, "eps", eps, above=0)
  validate.number(name, "factor", factor, above=0)
  return base.WeightNorm(
    name=name,
    options={"variant": variant, "eps": eps, "factor": factor},
    init_fn=_init_gain,
    apply_fn=_standardize_and_scale,
    least_fan_in=2,
  )


def _init_nothing(kernel: Array, key: Array | None, **_: Any):
  del kernel, key
  return {}


def _init_gain(kernel: Array, key: Array | None, **_: Any):
  del key
  dtype = jnp.promote_types(kernel.dtype, jnp.float32)
  return {"params": {"gain": jnp.ones(kernel.shape[-1:], dtype)}}


def _moments(kernel: Array) -> tuple[Array, Array]:
  """Each filter less its mean, and its biased variance."""
  wide = moments.promote(kernel)
  mean, variance = moments.mean_and_variance(wide, range(kernel.ndim - 1))
  return wide - mean, variance


def _standardize(
  variables: base.Variables,
  kernel: Array,
  *,
  mode: modes.Mode,
  variant: str,
  eps: float,
):
  del mode
  centered, variance = _moments(kernel)
  unbiased, where, _ = _VARIANTS[variant]
  if unbiased:
    fan_in = math.prod(kernel.shape[:-1])
    variance *= fan_in / (fan_in - 1)
  centered *= moments.RECIPROCAL_ROOT[where](variance, eps)
  return centered.astype(kernel.dtype), variables["stats"]


def _standardize_and_scale(
  variables: base.Variables,
  kernel: Array,
  *,
  mode: modes.Mode,
  variant: str,
  eps: float,
  factor: float,
):
  del mode
  shapes = {"gain": kernel.shape[-1:]}
  (gain,) = base.checked_variables(
    "scaled_weight_standardization", variables, "params", shapes
  )
  centered, variance = _moments(kernel)
  fan_in = math.prod(kernel.shape[:-1])
  if variant == "floor":
    square = jnp.maximum(fan_in * variance, eps)
  else:
    square = fan_in * (variance + eps)
  if factor != 1.0:
    gain = gain * factor
  centered *= lax.rsqrt(square) * gain.astype(centered.dtype)
  return centered.astype(kernel.dtype), variables["stats"]
