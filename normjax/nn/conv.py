"""Two-dimensional convolution, channels last."""

import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from normjax import errors
from normjax.nn import roles, saved_residuals
from normjax.nn.weight_norm_layer import layer_or_none
from normjax.norms import modes, weights
from normjax.types import Array

# Initialization for layers followed by a ReLU: arXiv:1502.01852, equation 10.
HE_NORMAL = nnx.initializers.variance_scaling(2.0, "fan_in", "normal")


class Conv(nnx.Module):
  """y = x * kernel (+ bias), zero padding of half the kernel on each side.

  The kernel is HWIO: (height, width, inputs / groups, outputs).
  """

  parameter_roles: ClassVar[roles.Declared] = {
    "kernel": roles.conv(),
    "bias": roles.bias("out"),
  }

  def __init__(
    self,
    inputs: int,
    outputs: int,
    *,
    kernel_size: int = 3,
    stride: int = 1,
    groups: int = 1,
    use_bias: bool = False,
    padding: str = "half",
    kernel_init: nnx.Initializer = HE_NORMAL,
    weight_norm: weights.WeightNormSpec | None = None,
    dtype: jnp.dtype = jnp.float32,
    rngs: nnx.Rngs,
  ):
    """Makes the kernel.

    Args:
      inputs: channels of x; a multiple of `groups`.
      outputs: channels of y; a multiple of `groups`.
      kernel_size: of both axes, odd.
      stride: of both axes.
      groups: how many convolutions side by side.
      use_bias: whether y has one.
      padding: with zeros: "half" of the kernel on each side, or "same", as
        TensorFlow and Haiku do: where the stride is 2 and the image even, one
        row less before it.
      kernel_init: an initializer of HWIO kernels.
      weight_norm: of the kernel, by name, mapping or itself; None: none.
      dtype: of the computation; parameters are float32.
      rngs: stream "params".
    """
    self.stride, self.groups, self.dtype = stride, groups, dtype
    self.padding = padding
    shape = (kernel_size, kernel_size, inputs // groups, outputs)
    self.kernel = nnx.Param(kernel_init(rngs.params(), shape, jnp.float32))
    self.weight_norm = layer_or_none(weight_norm, self.kernel[...], rngs)
    self.use_bias = use_bias
    if use_bias:
      self.bias = nnx.Param(jnp.zeros((outputs,)))

  def __call__(self, x_byxc: Array, *, train: modes.Train = None) -> Array:
    """Convolves; `train` is for norms of the kernel."""
    bias = self.bias[...] if self.use_bias else None
    return self.convolve(x_byxc, self.normalized_kernel(train=train), bias)

  def convolve(self, x_byxc: Array, kernel: Array, bias: Array | None) -> Array:
    """As this layer does it, with another kernel and bias."""
    y_byxc = convolve(
      x_byxc.astype(self.dtype),
      kernel.astype(self.dtype),
      stride=self.stride,
      groups=self.groups,
      padding=self.padding,
    )
    return y_byxc if bias is None else y_byxc + bias.astype(self.dtype)

  def normalized_kernel(self, *, train: modes.Train = None) -> Array:
    """The kernel that x meets, float32."""
    modes.resolve(train, self)
    kernel = self.kernel[...]
    if self.weight_norm is None:
      return kernel
    return self.weight_norm(kernel, train=train)


def convolve(
  x_byxc: Array,
  kernel: Array,
  *,
  stride: int = 1,
  groups: int = 1,
  padding: str = "half",
) -> Array:
  """Convolves with HWIO, odd kernels, half of which is zero padding.

  `padding="same"` is that of TensorFlow; see `Conv`.

  Raises:
    UserError: x is no batch of images, or has other channels.
  """
  inputs = groups * kernel.shape[2]
  if x_byxc.ndim != 4 or x_byxc.shape[-1] != inputs:
    raise errors.UserError(
      f"images of shape {x_byxc.shape} are not (batch, height, width,"
      f" {inputs} channels), which the kernel of shape {kernel.shape} reads."
    )
  half = [(size // 2, size // 2) for size in kernel.shape[:2]]
  linear = functools.partial(
    jax.lax.conv_general_dilated,
    window_strides=(stride, stride),
    padding={"half": half, "same": "SAME"}[padding],
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=groups,
  )
  return saved_residuals.input_only(linear, x_byxc, kernel)
