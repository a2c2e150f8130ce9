"""Residual networks for small images: He et al. 2015, arXiv:1512.03385."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from normjax import errors, norms
from normjax.nn import checks
from normjax.nn.conv_norm import ConvNorm
from normjax.types import Array


def shortcut(x_byxc: Array, channels: int, stride: int) -> Array:
  """Option A of section 4.2: every stride-th pixel, new channels zero."""
  x_byxc = x_byxc[:, ::stride, ::stride]
  missing = channels - x_byxc.shape[-1]
  return jnp.pad(x_byxc, ((0, 0), (0, 0), (0, 0), (0, missing)))


class BasicBlock(nnx.Module):
  """conv - norm - ReLU - conv - norm, + shortcut, ReLU (figure 2)."""

  def __init__(
    self,
    inputs: int,
    outputs: int,
    stride: int,
    *,
    norm: norms.Norm,
    dtype: jnp.dtype,
    rngs: nnx.Rngs,
  ):
    """Makes two convolutions and two norms."""
    self.stride, self.channels = stride, outputs
    shared = {"norm": norm, "dtype": dtype, "rngs": rngs}
    self.conv_1 = ConvNorm(inputs, outputs, stride=stride, **shared)
    self.conv_2 = ConvNorm(outputs, outputs, activation=None, **shared)

  def __call__(self, x_byxc: Array, *, train: bool) -> Array:
    """The stream after the block."""
    h_byxc = self.conv_2(self.conv_1(x_byxc, train=train), train=train)
    x_byxc = jax.nn.relu(h_byxc + shortcut(x_byxc, self.channels, self.stride))
    self.sow(nnx.Intermediate, "stream", x_byxc, capture_noop=True)
    return x_byxc


class CifarResNet(nnx.Module):
  """The 6n + 2 layer network of section 4.2: three stages of n blocks."""

  reads: ClassVar[frozenset[str]] = frozenset({"images"})

  def __init__(
    self,
    num_classes: int = 10,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    *,
    depth: int = 20,
    width: int = 16,
    norm: norms.NormSpec = "batch_norm",
    compute_dtype: str = "float32",
    rngs: nnx.Rngs,
  ):
    """Makes the model.

    Args:
      num_classes: outputs.
      input_shape: (height, width, channels) of one image.
      depth: 6n + 2: 8, 14, 20, 32, 44, 56, 110, …
      width: channels of the first stage; doubled in each next one.
      norm: what follows each convolution.
      compute_dtype: "float32" or "bfloat16"; parameters, statistics and
        logits are float32 either way.
      rngs: stream "params".

    Raises:
      UserError: a depth that is not 6n + 2, or an input that is no image.
    """
    checks.check_sizes(depth=depth)
    if depth < 8 or (depth - 2) % 6:
      raise errors.UserError(
        f"depth={depth} must be 6n + 2: 8, 14, 20, 32, 44, 56, 110."
      )
    if len(input_shape) != 3:
      raise errors.UserError(
        f"input_shape={tuple(input_shape)} must be (height, width, channels)."
      )
    checks.check_input_shape(input_shape)
    checks.check_sizes(num_classes=num_classes, width=width)
    dtype = checks.compute_dtype(compute_dtype)
    resolved = norms.resolve(norm)
    self.stem = ConvNorm(
      input_shape[-1], width, norm=resolved, dtype=dtype, rngs=rngs
    )
    blocks, inputs = [], width
    for stage in range(3):
      outputs = width * 2**stage
      for index in range((depth - 2) // 6):
        stride = 2 if stage and not index else 1
        blocks.append(
          BasicBlock(
            inputs, outputs, stride, norm=resolved, dtype=dtype, rngs=rngs
          )
        )
        inputs = outputs
    self.layers = nnx.List(blocks)
    self.head = nnx.Linear(
      inputs,
      num_classes,
      dtype=dtype,
      preferred_element_type=jnp.float32,
      rngs=rngs,
    )

  def __call__(
    self, images_byxc: Array, *, train: bool = True, key: Array | None = None
  ) -> Array:
    """Class logits.

    Args:
      images_byxc: standardized, any float dtype.
      train: whether batch statistics are of this batch.
      key: unused; there is no dropout.

    Returns:
      (b, classes), float32.
    """
    del key
    x_byxc = self.stem(images_byxc, train=train)
    for layer in self.layers:
      x_byxc = layer(x_byxc, train=train)
    return self.head(jnp.mean(x_byxc, axis=(1, 2)))
