"""Changes to linear layers, in place, whatever their class.

A linear layer is y = x kernel + bias: `nnx.Linear`, `nnx.LinearGeneral`, and
convolutions, whose inputs and outputs are the kernel's last two axes.
"""

import math
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import lax

from normjax.nn.conv import Conv
from normjax.nn.dense import Dense
from normjax.norms import moments
from normjax.types import Array

_CONVS = (nnx.Conv, Conv)
# These classes alone: what is derived from them may do more than multiply.
_KINDS = (nnx.Linear, nnx.LinearGeneral, nnx.Conv, Conv, Dense)


def obstacle(layer: Any) -> str:
  """Why a layer is no linear map of its kernel; "" where it is."""
  if type(layer) not in _KINDS:
    return f"is a {type(layer).__name__}, no linear layer"
  if getattr(layer, "batch_axis", None):
    return "has a kernel for each of several batches"
  if getattr(layer, "mask", None) is not None:
    return "has a mask on its kernel"
  return ""


def input_obstacle(layer: Any, *, offset: bool) -> str:
  """Why a layer cannot take over a gain, or an offset too, of what it reads."""
  if found := obstacle(layer):
    return found
  if isinstance(layer, _CONVS):
    groups = getattr(layer, "groups", getattr(layer, "feature_group_count", 1))
    if groups > 1:
      return "is a convolution in groups"
    if offset and not _reads_no_padding(layer):
      return "reads zeros around the image, which have no offset"
  return ""


def _reads_no_padding(layer: Any) -> bool:
  return layer.padding == "VALID" or max(layer.kernel[...].shape[:-2]) == 1


def has_bias(layer: Any) -> bool:
  """Whether it adds one."""
  return bool(layer.use_bias)


def input_axes(layer: Any) -> tuple[int, ...]:
  """The axes of the kernel that are the features of x."""
  if isinstance(layer, _CONVS):
    return (-2,)
  if isinstance(layer, nnx.LinearGeneral):
    return tuple(range(len(layer.in_features)))
  return (0,)


def num_inputs(layer: Any) -> int:
  """The features of x."""
  shape = layer.kernel[...].shape
  return math.prod(shape[axis] for axis in input_axes(layer))


def kernel_of(layer: Any) -> Array:
  """What x meets, float32 at least: after the norm of the kernel, if any."""
  norm = getattr(layer, "weight_norm", None)
  kernel = layer.kernel[...]
  return moments.promote(kernel if norm is None else norm(kernel, train=False))


def set_kernel(layer: Any, kernel: Array) -> None:
  """Another kernel, in the dtype of the old one; it has no norm."""
  set_value(layer.kernel, kernel)
  if hasattr(layer, "weight_norm"):
    layer.weight_norm = None


def scale_inputs(layer: Any, gain: Array) -> None:
  """Makes y of x what it was of gain * x: kernel rows times the gain, (d,)."""
  set_kernel(layer, kernel_of(layer) * _along(gain, layer))


def map_inputs(layer: Any, matrix: Array) -> None:
  """Makes y of x what it was of x @ matrix, (d, d)."""
  kernel = kernel_of(layer)
  inputs = input_axes(layer)
  assert inputs == tuple(range(len(inputs))), "no convolution"
  flat = kernel.reshape(matrix.shape[1], -1)
  mapped = jnp.matmul(matrix, flat, precision=lax.Precision.HIGHEST)
  set_kernel(layer, mapped.reshape(kernel.shape))


def offset_outputs(layer: Any, offset: Array) -> Array:
  """What an offset of x, (d,), adds to y: of the shape of the bias."""
  kernel = kernel_of(layer)
  inputs = [axis % kernel.ndim for axis in input_axes(layer)]
  if isinstance(layer, _CONVS):
    inputs = list(range(kernel.ndim - 1))  # All that a pixel reads.
  return jnp.sum(kernel * _along(offset, layer), axis=tuple(inputs))


def _along(vector: Array, layer: Any) -> Array:
  """A vector of input features, to be broadcast with the kernel."""
  shape = [1] * layer.kernel[...].ndim
  for axis in input_axes(layer):
    shape[axis] = layer.kernel[...].shape[axis]
  assert math.prod(shape) == vector.size
  return vector.reshape(shape)


def add_bias(layer: Any, value: Array) -> None:
  """Adds to the bias, which is made where there is none."""
  if has_bias(layer):
    set_value(layer.bias, moments.promote(layer.bias[...]) + value)
    return
  layer.bias = nnx.Param(value.astype(layer.kernel[...].dtype))
  layer.use_bias = True


def become(layer: Any, kernel: Array, bias: Array) -> None:
  """Takes this kernel and bias, in their own dtypes; a kernel has no norm."""
  layer.kernel.set_value(kernel)
  if has_bias(layer):
    layer.bias.set_value(bias)
  else:
    layer.bias, layer.use_bias = nnx.Param(bias), True
  if hasattr(layer, "weight_norm"):
    layer.weight_norm = None


def set_value(variable: nnx.Variable, value: Array) -> None:
  """A new value in the variable's dtype; its shape may be another."""
  variable.set_value(value.astype(variable[...].dtype))


def drop_last_input(layer: Any) -> None:
  """Reads all features but the last of some that sum to 0.

  x_last = -sum(others), so that what it added goes to the others' rows.
  """
  (axis,) = input_axes(layer)
  kernel = jnp.moveaxis(kernel_of(layer), axis, 0)
  set_kernel(layer, jnp.moveaxis(kernel[:-1] - kernel[-1:], 0, axis))
  _resize(layer, "in_features")


def fit_outputs(layer: Any) -> None:
  """Makes the layer's sizes those of its kernel's outputs, one less."""
  _resize(layer, "out_features")


def _resize(layer: Any, name: str) -> None:
  if hasattr(layer, "kernel_shape"):
    layer.kernel_shape = layer.kernel[...].shape
  if hasattr(layer, name):
    size = getattr(layer, name)
    several = isinstance(size, tuple)
    setattr(layer, name, (*size[:-1], size[-1] - 1) if several else size - 1)
