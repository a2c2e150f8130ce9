"""A linear map and the norm after it as one map: arXiv:2305.11624."""

import jax
import jax.numpy as jnp
from jax import lax

from normjax import errors, norms
from normjax.norms import base, batch_power, moments
from normjax.types import Array


def check_foldable(norm: norms.Norm, what: str) -> None:
  """Raises UserError unless a linear map can absorb the norm.

  Args:
    norm: what is to be folded.
    what: the option or the module that asks, for the message.
  """
  if norm.traits.foldable:
    return
  raise errors.UserError(
    f"{what} folds the norm into the convolution before it, and {norm.name}"
    " is no affine map of a channel at evaluation. Norms that are:"
    f" {', '.join(n for n in norms.names() if _is_foldable(n))}."
  )


def fold(
  kernel: Array,
  bias: Array | None,
  norm: norms.Norm,
  variables: base.Variables,
) -> tuple[Array, Array]:
  """The kernel and bias of N(x * kernel + bias), N as in evaluation.

      c = scale / sqrt(var + eps)
      kernel' = c kernel,    bias' = offset + c (bias - mean)

  for batch_norm, of running mean and variance and learned scale and offset;
  for others by their own gain and offset. Inside a differentiated function
  this is Tune mode of arXiv:2305.11624: the gradients are those of
  convolution and norm one after the other, and of feature maps the backward
  pass needs x alone. The running statistics are constants. Float32, or float64
  for a float64 kernel, whatever dtype x is to be convolved in.

  Args:
    kernel: (…, c), the outputs on the last axis: HWIO, or (inputs, c).
    bias: (c,), or None for 0.
    norm: with the trait `foldable`.
    variables: the norm's, for c channels; parameters that are left out are
      (1, 0).

  Returns:
    kernel' and bias'.

  Raises:
    UserError: a norm that is no affine map, or variables that do not fit.
  """
  check_foldable(norm, "fold")
  kernel = moments.promote(kernel)
  shift = jnp.zeros(kernel.shape[-1:], kernel.dtype)
  if bias is not None:
    shift += bias.astype(shift.dtype)
  offset, gain = value_and_slope(norm, variables, shift)
  return kernel * gain, offset


def value_and_slope(
  norm: norms.Norm, variables: base.Variables, x_c: Array
) -> tuple[Array, Array]:
  """Of an affine map of channels, N in evaluation, at x: N(x) and dN / dx.

  Args:
    norm: with the trait `foldable`.
    variables: the norm's; running statistics are constants.
    x_c: (c,), float32 at least. At 0 the two are offset and gain.
  """
  constants = {
    "params": variables.get("params", {}),
    "stats": lax.stop_gradient(dict(variables.get("stats", {}))),
  }

  def normalize(x_c: Array) -> Array:
    return norm.apply(constants, x_c[None], train=False)[0][0]

  # The slope of an affine map; a difference of two of its values would lose
  # digits to the offset.
  value, slope = jax.jvp(normalize, (x_c,), (jnp.ones_like(x_c),))
  if grad_stats := variables.get("grad_stats"):
    # Their gradient is their new value: the old one.
    value = batch_power.keep_grad_stats(value, grad_stats)
  return value, slope


def _is_foldable(name: str) -> bool:
  # gated_norm and the like take options that are norms: all have defaults.
  return norms.make(name).traits.foldable
