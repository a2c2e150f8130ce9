"""What convolutional networks repeat: convolution, norm, activation."""

from typing import Any

import jax.numpy as jnp
from flax import nnx

from normjax import norms
from normjax.nn import activation as activations
from normjax.nn.conv import HE_NORMAL, Conv
from normjax.nn.norm_layer import NormLayer
from normjax.norms import weights
from normjax.types import Array


class NormActivation(nnx.Module):
  """a(N(x)); a norm that is its own activation takes the place of both.

  Where the network has a norm without activation (`activation=None`), such a
  norm is only its scale and bias, as in the official EvoNorm
  (arXiv:2004.02967).
  """

  def __init__(
    self,
    norm: norms.NormSpec,
    channels: int,
    *,
    activation: str | None = "relu",
    scale_init: nnx.Initializer | None = None,
    bias_init: nnx.Initializer | None = None,
    rngs: nnx.Rngs,
  ):
    """Makes the norm's variables.

    Args:
      norm: a name, a mapping with "name", or a Norm.
      channels: on the last axis of x.
      activation: of `nn.activation`; None: none.
      scale_init: how the norm's scale starts, where it has one; None: as the
        norm says.
      bias_init: the same for its bias.
      rngs: stream "params".
    """
    norm = norms.resolve(norm)
    self.activate = None
    if activation is None:
      norm = norm.without_activation()
    elif not norm.traits.contains_activation:
      self.activate = activations.resolve(activation)
    self.norm = NormLayer(
      norm,
      (channels,),
      scale_init=scale_init,
      bias_init=bias_init,
      rngs=rngs,
    )

  def __call__(
    self, x: Array, *, train: bool = True, mask: Array | None = None
  ) -> Array:
    """Applies both."""
    y = self.norm(x, train=train, mask=mask)
    return y if self.activate is None else self.activate(y)


class ConvNorm(nnx.Module):
  """a(N(x * kernel)): a convolution, what follows it, and the activation."""

  def __init__(
    self,
    inputs: int,
    outputs: int,
    *,
    kernel_size: int = 3,
    stride: int = 1,
    groups: int = 1,
    norm: norms.NormSpec = "batch_norm",
    activation: str | None = "relu",
    scale_init: nnx.Initializer | None = None,
    bias_init: nnx.Initializer | None = None,
    kernel_init: nnx.Initializer = HE_NORMAL,
    weight_norm: weights.WeightNormSpec | None = None,
    dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    """Makes both; the arguments are those of `Conv` and `NormActivation`."""
    self.conv = Conv(
      inputs,
      outputs,
      kernel_size=kernel_size,
      stride=stride,
      groups=groups,
      kernel_init=kernel_init,
      weight_norm=weight_norm,
      dtype=dtype,
      rngs=rngs,
    )
    self.norm = NormActivation(
      norm,
      outputs,
      activation=activation,
      scale_init=scale_init,
      bias_init=bias_init,
      rngs=rngs,
    )

  def __call__(self, x_byxc: Array, *, train: bool = True) -> Array:
    """Applies all."""
    return self.norm(self.conv(x_byxc, train=train), train=train)
