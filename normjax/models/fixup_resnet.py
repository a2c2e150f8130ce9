"""Fixup: a residual network without norms, by its start: arXiv:1901.09321."""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from normjax import norms, validate
from normjax.models.residual_blocks import pad_shortcut, stages
from normjax.models.resnet import check_cifar_depth
from normjax.nn import checks, roles
from normjax.nn.conv import Conv
from normjax.norms import modes
from normjax.types import Array

# What PyTorch starts convolutions with: U(-1, 1) / sqrt(fan_in).
_TORCH_DEFAULT = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class FixupBlock(nnx.Module):
  """Two convolutions with scalar biases around them and one multiplier.

      h = relu((x + a1) * k1 + b1)
      x <- relu(shortcut(x) + scale ((h + a2) * k2) + b2)

  Figure 1 of arXiv:1901.09321, right. Where the shape changes, the shortcut is
  every second pixel of x + a1, with zeros for new channels, as in the official
  code. a1, b1, a2, b2 are `before_1_bias`, `after_1_bias`, `before_2_bias` and
  `after_2_bias`: 0 at first; the scale is 1.
  """

  parameter_roles: ClassVar[roles.Declared] = {
    "before_1_bias": roles.bias(),
    "after_1_bias": roles.bias(),
    "before_2_bias": roles.bias(),
    "after_2_bias": roles.bias(),
    "scale": roles.gain(),
  }

  def __init__(
    self,
    inputs: int,
    outputs: int,
    stride: int,
    *,
    num_blocks: int,
    dtype: jnp.dtype,
    rngs: nnx.Rngs,
  ):
    """Makes the parameters.

    Args:
      inputs: channels of x.
      outputs: channels of the stream after the block.
      stride: of the first convolution and the shortcut.
      num_blocks: L of the network. k1 starts He-normal, by its outputs as in
        the official code, times L^(-1 / (2m - 2)) with m = 2 convolutions a
        branch; k2 at zero.
      dtype: of the computation.
      rngs: stream "params".
    """
    self.stride, self.outputs, self.dtype = stride, outputs, dtype
    start = nnx.initializers.variance_scaling(
      2.0 * _branch_gain(num_blocks) ** 2, "fan_out", "normal"
    )
    shared = {"dtype": dtype, "rngs": rngs}
    self.conv_1 = Conv(
      inputs, outputs, stride=stride, kernel_init=start, **shared
    )
    self.conv_2 = Conv(
      outputs, outputs, kernel_init=nnx.initializers.zeros, **shared
    )
    self.before_1_bias = nnx.Param(jnp.zeros(()))
    self.after_1_bias = nnx.Param(jnp.zeros(()))
    self.before_2_bias = nnx.Param(jnp.zeros(()))
    self.after_2_bias = nnx.Param(jnp.zeros(()))
    self.scale = nnx.Param(jnp.ones(()))

  def __call__(self, x_byxc: Array) -> Array:
    """The stream after the block."""
    a1, b1, a2, b2, scale = (
      parameter[...].astype(self.dtype)
      for parameter in (
        self.before_1_bias,
        self.after_1_bias,
        self.before_2_bias,
        self.after_2_bias,
        self.scale,
      )
    )
    shifted_byxc = x_byxc + a1
    h_byxc = jax.nn.relu(self.conv_1(shifted_byxc) + b1)
    h_byxc = scale * self.conv_2(h_byxc + a2) + b2
    if h_byxc.shape != x_byxc.shape:
      x_byxc = pad_shortcut(shifted_byxc, self.outputs, self.stride)
    x_byxc = jax.nn.relu(h_byxc + x_byxc)
    self.sow(nnx.Intermediate, "stream", x_byxc, capture_noop=True)
    return x_byxc


def _branch_gain(num_blocks: int, num_convolutions: int = 2) -> float:
  """L^(-1 / (2m - 2)): section 3, rule 2."""
  return math.pow(num_blocks, -1 / (2 * num_convolutions - 2))


class FixupCifarResNet(nnx.Module):
  """The 6n + 2 layer network with Fixup in place of norms.

  As in hongyi-zhang/Fixup: the stem is a convolution, started as PyTorch
  starts them, a scalar bias and a ReLU; `head_bias` is added before the
  linear head, which starts at zero. Its training takes a tenth of the rate for
  biases and multipliers; `optim.scale_by_path` does that.
  """

  reads: ClassVar[frozenset[str]] = frozenset({"images"})
  parameter_roles: ClassVar[roles.Declared] = {
    "stem_bias": roles.bias(),
    "head_bias": roles.bias(),
  }
  end_layers: ClassVar[roles.Ends] = roles.Ends("stem", "head")

  def __init__(
    self,
    num_classes: int = 10,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    *,
    depth: int = 20,
    width: int = 16,
    norm: norms.NormSpec = "identity",
    compute_dtype: str = "float32",
    rngs: nnx.Rngs,
  ):
    """Makes the model.

    Args:
      num_classes: outputs.
      input_shape: (height, width, channels) of one image.
      depth: 6n + 2: 8, 14, 20, 32, 44, 56, 110, …
      width: channels of the first stage; doubled in each next one.
      norm: "identity": there are none.
      compute_dtype: "float32" or "bfloat16"; parameters and logits are float32
        either way.
      rngs: stream "params".

    Raises:
      UserError: a depth that is not 6n + 2, an input that is no image, or
        another norm.
    """
    checks.check_no_norm(norm)
    validate.counts("fixup_resnet", num_classes=num_classes, width=width)
    checks.check_image_shape(input_shape)
    blocks_per_stage = check_cifar_depth(depth)
    self.dtype = checks.compute_dtype(compute_dtype)
    shared = {"dtype": self.dtype, "rngs": rngs}
    self.stem = Conv(
      input_shape[-1], width, kernel_init=_TORCH_DEFAULT, **shared
    )
    self.stem_bias = nnx.Param(jnp.zeros(()))
    made, inputs = [], width
    sites = stages(width, [blocks_per_stage] * 3)
    for outputs, stride in sites:
      made.append(
        FixupBlock(inputs, outputs, stride, num_blocks=len(sites), **shared)
      )
      inputs = outputs
    self.layers = nnx.List(made)
    self.head_bias = nnx.Param(jnp.zeros(()))
    self.head = nnx.Linear(
      inputs,
      num_classes,
      kernel_init=nnx.initializers.zeros,
      preferred_element_type=checks.logits_dtype(self.dtype),
      **shared,
    )

  def __call__(
    self,
    images_byxc: Array,
    *,
    train: modes.Train = None,
    key: Array | None = None,
  ) -> Array:
    """Class logits.

    Args:
      images_byxc: standardized, any float dtype.
      train: checked; training and evaluation are the same.
      key: unused; there is no dropout.

    Returns:
      (b, classes), float32.
    """
    del key
    modes.resolve(train, self)
    bias = self.stem_bias[...].astype(self.dtype)
    x_byxc = jax.nn.relu(self.stem(images_byxc) + bias)
    for layer in self.layers:
      x_byxc = layer(x_byxc)
    x_bc = jnp.mean(x_byxc, axis=(1, 2))
    return self.head(x_bc + self.head_bias[...].astype(self.dtype))
