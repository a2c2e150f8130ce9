"""What convolutional networks repeat: convolution, norm, activation."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import nnx

from normjax import norms, validate
from normjax.nn import activation as activations
from normjax.nn import folding, neighbours
from normjax.nn.conv import HE_NORMAL, Conv
from normjax.nn.norm_layer import NormLayer
from normjax.nn.variables import own_variables
from normjax.norms import modes, weights
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
    self, x: Array, *, train: modes.Train = None, mask: Array | None = None
  ) -> Array:
    """Applies both."""
    y = self.norm(x, train=train, mask=mask)
    return y if self.activate is None else self.activate(y)


class ConvNorm(nnx.Module):
  """a(N(x * kernel)): a convolution, what follows it, and the activation.

  What training is of is said where the layer is made, by one of the modes of
  arXiv:2305.11624. It is not the `norms.Mode` of a call, which the norm reads
  in the first of them alone:

  - "train": the norm sees `train`.
  - "eval": the norm is as in evaluation; its statistics are constants.
  - "tune": the same, with the norm folded into the kernel at each call, so
    that of feature maps the backward pass keeps x but not x * kernel.

  All but the first are for going on with a trained network; parameters and
  statistics are the same in all. `convert.deploy` folds for good.
  """

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
    mode: str = "train",
    scale_init: nnx.Initializer | None = None,
    bias_init: nnx.Initializer | None = None,
    kernel_init: nnx.Initializer = HE_NORMAL,
    weight_norm: weights.WeightNormSpec | None = None,
    dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
  ):
    """Makes both; other arguments are those of `Conv` and `NormActivation`.

    Args:
      inputs: channels of x.
      outputs: channels of y.
      kernel_size: of both axes.
      stride: of both axes.
      groups: how many convolutions side by side.
      norm: a name, a mapping with "name", or a Norm.
      activation: of `nn.activation`; None: none.
      mode: "train", "eval" or "tune".
      scale_init: how the norm's scale starts.
      bias_init: how its bias starts.
      kernel_init: an initializer of HWIO kernels.
      weight_norm: of the kernel; None: it is taken as it is.
      dtype: of the computation; folding is in float32.
      rngs: stream "params".

    Raises:
      UserError: an unknown mode, or "tune" of a norm that is not foldable.
    """
    check_mode(norms.resolve(norm), mode)
    self.mode = mode
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

  def __call__(self, x_byxc: Array, *, train: modes.Train = None) -> Array:
    """Applies all; the norm reads `train` in mode "train" only."""
    return CONV_NORM_MODES[self.mode](self, x_byxc, train)

  norm_neighbours: ClassVar[neighbours.Declared] = {
    "norm/norm": neighbours.Neighbours(writer="conv")
  }

  def folded(self, *, train: modes.Train = False) -> tuple[Array, Array]:
    """The kernel and bias of convolution and norm in one, float32.

    Args:
      train: as in a call; for norms of the kernel.

    Raises:
      UserError: a norm that is not foldable.
    """
    layer, conv = self.norm.norm, self.conv
    return folding.fold(
      conv.normalized_kernel(train=train),
      conv.bias[...] if conv.use_bias else None,
      layer.norm,
      own_variables(layer),
    )


def _as_called(site: ConvNorm, x_byxc: Array, train: modes.Train) -> Array:
  return site.norm(site.conv(x_byxc, train=train), train=train)


def _frozen(site: ConvNorm, x_byxc: Array, train: modes.Train) -> Array:
  return site.norm(site.conv(x_byxc, train=train), train=False)


def _folded(site: ConvNorm, x_byxc: Array, train: modes.Train) -> Array:
  kernel, bias = site.folded(train=train)
  y_byxc = site.conv.convolve(x_byxc, kernel, bias)
  activate = site.norm.activate
  return y_byxc if activate is None else activate(y_byxc)


# By name: (module, x, train) to y.
CONV_NORM_MODES: Mapping[
  str, Callable[[ConvNorm, Array, modes.Train], Array]
] = {
  "train": _as_called,
  "eval": _frozen,
  "tune": _folded,
}


def check_mode(norm: norms.Norm, mode: str) -> None:
  """Raises UserError unless a `ConvNorm` of this norm has the mode."""
  validate.choice("conv_norm", "conv_norm_mode", mode, CONV_NORM_MODES)
  if mode == "tune":
    folding.check_foldable(norm, f"conv_norm_mode={mode!r}")
