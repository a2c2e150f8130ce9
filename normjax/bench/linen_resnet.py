"""A ResNet for CIFAR as a user of flax.linen writes it: the peer of ours."""

import jax.numpy as jnp
from flax import linen as nn


class ConvNorm(nn.Module):
  """Convolution and batch norm."""

  features: int
  stride: int = 1

  @nn.compact
  def __call__(self, x_byxc):
    """Statistics are the batch's."""
    x_byxc = nn.Conv(
      self.features,
      (3, 3),
      strides=self.stride,
      padding=1,
      use_bias=False,
      kernel_init=nn.initializers.he_normal(),
      name="conv",
    )(x_byxc)
    norm = nn.BatchNorm(use_running_average=False, momentum=0.9, name="norm")
    return norm(x_byxc)


class Block(nn.Module):
  """Two convolutions; the shortcut has no parameters."""

  features: int
  stride: int

  @nn.compact
  def __call__(self, x_byxc):
    """The stream after the block."""
    h_byxc = nn.relu(
      ConvNorm(self.features, self.stride, name="conv_1")(x_byxc)
    )
    h_byxc = ConvNorm(self.features, name="conv_2")(h_byxc)
    x_byxc = x_byxc[:, :: self.stride, :: self.stride]
    missing = self.features - x_byxc.shape[-1]
    x_byxc = jnp.pad(x_byxc, ((0, 0), (0, 0), (0, 0), (0, missing)))
    return nn.relu(x_byxc + h_byxc)


class CifarResNet(nn.Module):
  """Stem, three stages and head."""

  num_classes: int
  depth: int
  width: int

  @nn.compact
  def __call__(self, images_byxc):
    """Logits (b, classes)."""
    x_byxc = nn.relu(ConvNorm(self.width, name="stem")(images_byxc))
    count = (self.depth - 2) // 6
    for index in range(3 * count):
      stage = index // count
      stride = 2 if stage and index % count == 0 else 1
      block = Block(self.width * 2**stage, stride, name=f"layers_{index}")
      x_byxc = block(x_byxc)
    return nn.Dense(self.num_classes, name="head")(jnp.mean(x_byxc, (1, 2)))
