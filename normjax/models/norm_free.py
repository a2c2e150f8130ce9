"""What networks without norms share: arXiv:2101.08692 and arXiv:2102.06171.

The layout, the order of operations and the starts are those of
deepmind-research/nfnets.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import ClassVar

import jax.numpy as jnp
from flax import nnx

from normjax.models.standardized import Convolutions, max_pool
from normjax.nn import checks, roles
from normjax.nn.activation import Activation
from normjax.nn.dropout import drop_examples, dropout, split
from normjax.nn.squeeze_excite import SqueezeExcite
from normjax.nn.switches import HasNoise
from normjax.norms import modes
from normjax.types import Array


@dataclasses.dataclass(frozen=True)
class Branch:
  """What all blocks of a network have in common.

  Attributes:
    activation: with its gain; see `nn.gains`.
    alpha: of the residual branch; each block adds alpha^2 to the variance.
    expansion: channels inside the branch over those of the stream.
    group_size: channels in a group of the inner convolutions; None: one group.
    num_inner: inner convolutions.
    pool_shortcut: whether a shortcut with stride is a 2 x 2 mean before its
      convolution, or that convolution has the stride.
    se_ratio: of squeeze and excitation; None: none.
    skip_init: whether a learned scalar, 0 at first, multiplies the branch.
    convs: makes the convolutions.
  """

  activation: Activation
  alpha: float
  expansion: float
  group_size: int | None
  num_inner: int
  pool_shortcut: bool
  se_ratio: float | None
  skip_init: bool
  convs: Convolutions


def expected_stds(depths: Sequence[int], alpha: float) -> list[list[float]]:
  """The stream's standard deviation before each block, by stage.

      s = 1 at the start;  s <- sqrt(s^2 + alpha^2) after a block,
      s <- sqrt(1 + alpha^2) after the first of a stage

  A stage's first block has a convolution for a shortcut, whose output has
  variance 1 again; its branch still reads the s of the stage before.
  """
  std, stages = 1.0, []
  for depth in depths:
    stages.append([])
    for index in range(depth):
      stages[-1].append(std)
      std = math.hypot(std if index else 1.0, alpha)
  return stages


class Stem(nnx.Module):
  """Convolutions with activations between them, and perhaps a maximum."""

  def __init__(
    self,
    channels: Sequence[int],
    sizes: Sequence[int],
    strides: Sequence[int],
    *,
    activation: Activation,
    convs: Convolutions,
    pool: bool = False,
    use_bias: bool = True,
    rngs: nnx.Rngs,
  ):
    """Makes the convolutions.

    Args:
      channels: of the image, and after each convolution.
      sizes: of their kernels.
      strides: of each.
      activation: between two, not after the last.
      convs: makes them.
      pool: whether a 3 x 3 maximum of stride 2 follows.
      use_bias: whether the convolutions have biases.
      rngs: stream "params".
    """
    self.activation, self.pool = activation, pool
    self.padding = convs.padding
    self.convs = nnx.List(
      [
        convs.conv(*sizes_of_one, use_bias=use_bias, rngs=rngs)
        for sizes_of_one in zip(
          channels[:-1], channels[1:], sizes, strides, strict=True
        )
      ]
    )

  def __call__(self, x_byxc: Array, *, train: modes.Train = None) -> Array:
    """The stream before the first block."""
    for index, convolution in enumerate(self.convs):
      x_byxc = self.activation(x_byxc) if index else x_byxc
      x_byxc = convolution(x_byxc, train=train)
    return max_pool(x_byxc, self.padding) if self.pool else x_byxc


class Block(HasNoise):
  """A pre-activation bottleneck without norms.

      h = a(x) / std
      x <- shortcut + alpha skip_gain gate(conv(a(conv(a(conv(h))))))

  arXiv:2101.08692, section 3. The shortcut is x, or a 1 x 1 convolution of h
  where channels or resolution change. gate multiplies by twice squeeze and
  excitation's; stochastic depth comes between it and skip_gain.
  """

  parameter_roles: ClassVar[roles.Declared] = {
    "skip_gain": roles.gain(),
  }

  def __init__(
    self,
    inputs: int,
    outputs: int,
    stride: int,
    *,
    branch: Branch,
    expected_std: float,
    drop_rate: float,
    rngs: nnx.Rngs,
  ):
    """Makes the convolutions.

    Args:
      inputs: channels before.
      outputs: channels after.
      stride: of the first inner convolution and of the shortcut.
      branch: what is common to all blocks.
      expected_std: of x.
      drop_rate: of the branch, by example, in training.
      rngs: stream "params".
    """
    self.branch, self.beta = branch, 1 / expected_std
    self.drop_rate = drop_rate
    self.pool = branch.pool_shortcut and stride > 1
    conv = functools.partial(branch.convs.conv, rngs=rngs)
    hidden, groups = int(outputs * branch.expansion), 1
    if branch.group_size is not None:
      groups = hidden // branch.group_size
      hidden = groups * branch.group_size
    projects = stride > 1 or inputs != outputs
    self.conv_shortcut = (
      conv(inputs, outputs, stride=1 if self.pool else stride)
      if projects
      else None
    )
    self.conv_in = conv(inputs, hidden)
    self.conv_inner = nnx.List(
      [
        conv(hidden, hidden, 3, 1 if index else stride, groups=groups)
        for index in range(branch.num_inner)
      ]
    )
    self.conv_out = conv(hidden, outputs)
    self.gate = (
      None
      if branch.se_ratio is None
      else SqueezeExcite(
        outputs, ratio=branch.se_ratio, dtype=branch.convs.dtype, rngs=rngs
      )
    )
    self.skip_gain = nnx.Param(jnp.zeros(())) if branch.skip_init else None

  def __call__(
    self, x_byxc: Array, *, train: modes.Train = None, key: Array | None = None
  ) -> Array:
    """The stream after the block."""
    key = self.noise_key(train, key, stochastic_depth_rate=self.drop_rate)
    activate = self.branch.activation
    h_byxc = activate(x_byxc) * self.beta
    if self.conv_shortcut is not None:
      x_byxc = h_byxc
      if self.pool:
        # As in Haiku, a mean over what is inside the image only.
        x_byxc = nnx.avg_pool(
          x_byxc, (2, 2), (2, 2), padding="SAME", count_include_pad=False
        )
      x_byxc = self.conv_shortcut(x_byxc, train=train)
    h_byxc = self.conv_in(h_byxc, train=train)
    for convolution in (*self.conv_inner, self.conv_out):
      h_byxc = convolution(activate(h_byxc), train=train)
    if self.gate is not None:
      h_byxc = 2 * self.gate(h_byxc) * h_byxc
    h_byxc = drop_examples(h_byxc, self.drop_rate, key)
    if self.skip_gain is not None:
      h_byxc = h_byxc * self.skip_gain[...].astype(h_byxc.dtype)
    x_byxc = h_byxc * self.branch.alpha + x_byxc
    self.sow(nnx.Intermediate, "stream", x_byxc, capture_noop=True)
    return x_byxc


class NormFree(HasNoise):
  """Stem, stages of blocks, head; a subclass sets `stem` and calls `_build`."""

  reads: ClassVar[frozenset[str]] = frozenset({"images"})
  end_layers: ClassVar[roles.Ends] = roles.Ends("stem/convs/0", "head")

  stem: Stem

  def _build(
    self,
    num_classes: int,
    channels: int,
    widths: Sequence[int],
    depths: Sequence[int],
    strides: Sequence[int],
    *,
    branch: Branch,
    final_channels: int | None,
    stochastic_depth_rate: float,
    dropout_rate: float,
    rngs: nnx.Rngs,
  ) -> None:
    """Makes blocks and head.

    Args:
      num_classes: outputs.
      channels: after the stem.
      widths: channels of each stage.
      depths: blocks of each stage.
      strides: of each stage's first block.
      branch: what is common to all blocks.
      final_channels: of a last convolution; None: there is none.
      stochastic_depth_rate: block k of n is dropped at k / n times this.
      dropout_rate: of the mean over the image.
      rngs: stream "params".
    """
    self.activation, self.dropout_rate = branch.activation, dropout_rate
    self.stochastic_depth_rate = stochastic_depth_rate
    blocks, count = [], sum(depths)
    stds = expected_stds(depths, branch.alpha)
    for width, stride, stage in zip(widths, strides, stds, strict=True):
      for index, std in enumerate(stage):
        blocks.append(
          Block(
            channels,
            width,
            1 if index else stride,
            branch=branch,
            expected_std=std,
            drop_rate=stochastic_depth_rate * len(blocks) / count,
            rngs=rngs,
          )
        )
        channels = width
    self.layers = nnx.List(blocks)
    self.conv_final = (
      None
      if final_channels is None
      else branch.convs.conv(channels, final_channels, rngs=rngs)
    )
    self.head = nnx.Linear(
      final_channels or channels,
      num_classes,
      kernel_init=nnx.initializers.normal(0.01),
      dtype=branch.convs.dtype,
      preferred_element_type=checks.logits_dtype(branch.convs.dtype),
      rngs=rngs,
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
      images_byxc: standardized, any float dtype; of any height and width.
      train: whether dropout and stochastic depth are on.
      key: of both; needed where there is one of them in training.

    Returns:
      (b, classes), float32.

    Raises:
      UserError: images of other channels, or something to draw in training
        without a key.
    """
    rates = {
      "dropout_rate": self.dropout_rate,
      "stochastic_depth_rate": self.stochastic_depth_rate,
    }
    keys = split(key, len(self.layers) + 1, *rates.values())
    own_key = self.noise_key(train, keys[-1], **rates)
    x_byxc = self.stem(images_byxc, train=train)
    for layer, layer_key in zip(self.layers, keys[:-1], strict=True):
      x_byxc = layer(x_byxc, train=train, key=layer_key)
    if self.conv_final is not None:
      x_byxc = self.conv_final(x_byxc, train=train)
    x_bc = jnp.mean(self.activation(x_byxc), axis=(1, 2))
    return self.head(dropout(x_bc, self.dropout_rate, own_key))
