"""Residual blocks of convolutional networks, versions 1 and 2.

He et al. 2015, arXiv:1512.03385, and 2016, arXiv:1603.05027. An image is
(b, y, x, c), channels last.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from normjax import errors, norms, validate
from normjax.nn import neighbours, saved_residuals
from normjax.nn.conv import Conv
from normjax.nn.conv_norm import ConvNorm, NormActivation
from normjax.nn.dropout import drop_examples
from normjax.nn.switches import HasNoise
from normjax.norms import modes, weights
from normjax.types import Array

# How a norm's scale starts; the names of open_lth, the code of BatchNorm-only
# training (arXiv:2003.00152), are beside them. None: as the norm says.
SCALE_INITS: Mapping[str, nnx.Initializer | None] = {
  "ones": None,  # "fixed"; with bias_init=1 "oneone".
  "uniform": nnx.initializers.uniform(1.0),  # "uniform", its default: U(0, 1).
  # "positivenegative": U(-1, 1).
  "uniform_symmetric": lambda key, shape, dtype: jax.random.uniform(
    key, shape, dtype, -1.0, 1.0
  ),
}
SHORTCUTS = ("pad", "project")


@dataclasses.dataclass(frozen=True)
class Layers:
  """Makes a network's layers with the options that all of them share.

  Attributes:
    conv_options: of every `Conv`.
    norm_options: of every `NormActivation`.
    mode: of every `ConvNorm`.
    rngs: stream "params".
  """

  conv_options: Mapping[str, Any]
  norm_options: Mapping[str, Any]
  mode: str
  rngs: nnx.Rngs

  def conv(self, inputs: int, outputs: int, **options: Any) -> Conv:
    """A convolution."""
    return Conv(
      inputs, outputs, **{**self.conv_options, **options}, rngs=self.rngs
    )

  def norm(self, channels: int, **options: Any) -> NormActivation:
    """A norm and its activation."""
    return NormActivation(
      channels=channels, **{**self.norm_options, **options}, rngs=self.rngs
    )

  def conv_norm(self, inputs: int, outputs: int, **options: Any) -> ConvNorm:
    """A convolution, its norm and activation."""
    shared = {**self.conv_options, **self.norm_options, **options}
    return ConvNorm(inputs, outputs, **shared, mode=self.mode, rngs=self.rngs)


def make_layers(
  norm: norms.NormSpec,
  *,
  channels: int,
  scale_init: str,
  bias_init: float,
  mode: str,
  weight_norm: weights.WeightNormSpec | None,
  dtype: jnp.dtype,
  rngs: nnx.Rngs,
) -> Layers:
  """What a residual network's options say about its layers.

  Args:
    norm: at every site.
    channels: of the first site.
    scale_init: one of `SCALE_INITS`.
    bias_init: where the norms' biases start.
    mode: of every `ConvNorm`.
    weight_norm: of every convolution's kernel; None: none.
    dtype: of the computation.
    rngs: stream "params".

  Raises:
    UserError: an unknown `scale_init`, or a norm without the parameter that
      an option sets.
  """
  validate.choice("residual_blocks", "scale_init", scale_init, SCALE_INITS)
  resolved = norms.resolve(norm)
  if scale_init != "ones":
    check_starts(resolved, channels, "scale", f"scale_init={scale_init!r}")
  if bias_init:
    check_starts(resolved, channels, "bias", f"bias_init={bias_init!r}")
  return Layers(
    conv_options={"weight_norm": weight_norm, "dtype": dtype},
    norm_options={
      "norm": resolved,
      "scale_init": SCALE_INITS[scale_init],
      "bias_init": nnx.initializers.constant(bias_init) if bias_init else None,
    },
    mode=mode,
    rngs=rngs,
  )


def check_starts(
  norm: norms.Norm, channels: int, parameter: str, option: str
) -> None:
  """Raises UserError unless the norm's gain or offset is a parameter."""
  params = jax.eval_shape(lambda: norm.init((channels,)))["params"]
  if norm.options.get("zero_centered") or parameter not in params:
    raise errors.UserError(
      f"{option} sets the parameter {parameter!r} of every norm;"
      f" {norm.name} with options {dict(norm.options)} has none that is its"
      f" {'gain' if parameter == 'scale' else 'offset'}."
    )


def stages(width: int, counts: Sequence[int]) -> list[tuple[int, int]]:
  """(channels, stride) of every block of a network.

  Each stage has twice the channels of the one before, and halves height and
  width in its first block; the first stage has `width` and does not.

  Args:
    width: channels of the first stage.
    counts: blocks of each stage.
  """
  return [
    (width * 2**stage, 2 if stage and not index else 1)
    for stage, count in enumerate(counts)
    for index in range(count)
  ]


class Convolution(NamedTuple):
  """One convolution of a branch."""

  kernel_size: int
  outputs: int
  stride: int = 1


Branch = Sequence[Convolution]


def basic(channels: int, stride: int) -> Branch:
  """Two 3x3 (figure 5 of arXiv:1512.03385, left)."""
  return (Convolution(3, channels, stride), Convolution(3, channels))


def bottleneck(channels: int, stride: int, stride_in: str = "3x3") -> Branch:
  """1x1, 3x3, and 1x1 with four times the channels (figure 5, right).

  Args:
    channels: of the inner two.
    stride: of one of them.
    stride_in: which: "1x1", the first, as in the paper and its code; "3x3" as
      in torchvision and most training codes, which is called version 1.5.
  """
  validate.choice("residual_blocks", "stride_in", stride_in, ("3x3", "1x1"))
  first, second = (stride, 1) if stride_in == "1x1" else (1, stride)
  return (
    Convolution(1, channels, first),
    Convolution(3, channels, second),
    Convolution(1, 4 * channels),
  )


def pad_shortcut(x_byxc: Array, channels: int, stride: int) -> Array:
  """Option A of arXiv:1512.03385: every stride-th pixel, new channels zero."""
  x_byxc = x_byxc[:, ::stride, ::stride]
  missing = channels - x_byxc.shape[-1]
  return jnp.pad(x_byxc, ((0, 0), (0, 0), (0, 0), (0, missing)))


class Block(HasNoise):
  """What both versions share: the branch's shape and the shortcut's kind."""

  def __init__(
    self,
    inputs: int,
    branch: Branch,
    *,
    shortcut: str,
    project: Callable[..., nnx.Module],
    drop_path_rate: float,
  ):
    """Makes the shortcut.

    Args:
      inputs: channels of x.
      branch: the convolutions.
      shortcut: one of `SHORTCUTS`, where the shape changes.
      project: makes the projection, as `Layers.conv`.
      drop_path_rate: of the branch, by example, in training.
    """
    self.drop_path_rate = drop_path_rate
    validate.choice("residual_blocks", "shortcut", shortcut, SHORTCUTS)
    self.outputs = branch[-1].outputs
    self.stride = max(conv.stride for conv in branch)
    self.changes_shape = self.stride > 1 or inputs != self.outputs
    options = {"kernel_size": 1, "stride": self.stride}
    self.project = (
      project(inputs, self.outputs, **options)
      if self.changes_shape and shortcut == "project"
      else None
    )

  def shortcut(self, x_byxc: Array, *, train: modes.Train = None) -> Array:
    """The stream in the shape of the branch."""
    if self.project is not None:
      return self.project(x_byxc, train=train)
    return pad_shortcut(x_byxc, self.outputs, self.stride)

  def dropped(
    self, h_byxc: Array, *, train: modes.Train, key: Array | None
  ) -> Array:
    """What the branch gives, after drop path."""
    key = self.noise_key(train, key, drop_path_rate=self.drop_path_rate)
    return drop_examples(h_byxc, self.drop_path_rate, key, rescaled=True)


class PostActivation(Block):
  """Version 1: x <- relu(shortcut(x) + conv N relu conv N … conv N x).

  Figure 2 of arXiv:1512.03385: a norm after each convolution, an activation
  between them and one after the sum. The shortcut's projection has a norm.
  """

  def __init__(
    self,
    inputs: int,
    branch: Branch,
    *,
    layers: Layers,
    shortcut: str = "project",
    zero_gamma: bool = False,
    first: bool = False,
    drop_path_rate: float = 0.0,
  ):
    """Makes the convolutions and norms.

    Args:
      inputs: channels of x.
      branch: the convolutions.
      layers: makes them.
      shortcut: one of `SHORTCUTS`, where the shape changes.
      zero_gamma: whether the scale of the branch's last norm starts at zero,
        so that the block starts as its shortcut: arXiv:1706.02677, section
        5.1.
      first: the network's first block; like the others here.
      drop_path_rate: of the branch, by example, in training.
    """
    del first

    def normalized(inputs: int, outputs: int, **options: Any) -> ConvNorm:
      return layers.conv_norm(inputs, outputs, activation=None, **options)

    super().__init__(
      inputs,
      branch,
      shortcut=shortcut,
      project=normalized,
      drop_path_rate=drop_path_rate,
    )
    convs = []
    for kernel_size, outputs, stride in branch[:-1]:
      convs.append(
        layers.conv_norm(
          inputs, outputs, kernel_size=kernel_size, stride=stride
        )
      )
      inputs = outputs
    kernel_size, outputs, stride = branch[-1]
    start = {"scale_init": nnx.initializers.zeros} if zero_gamma else {}
    convs.append(
      normalized(
        inputs, outputs, kernel_size=kernel_size, stride=stride, **start
      )
    )
    self.convs = nnx.List(convs)

  def __call__(
    self, x_byxc: Array, *, train: modes.Train = None, key: Array | None = None
  ) -> Array:
    """The stream after the block; the key is of drop path."""
    h_byxc = x_byxc
    for conv in self.convs:
      h_byxc = conv(h_byxc, train=train)
    h_byxc = self.dropped(h_byxc, train=train, key=key)
    x_byxc = saved_residuals.relu(h_byxc + self.shortcut(x_byxc, train=train))
    self.sow(nnx.Intermediate, "stream", x_byxc, capture_noop=True)
    return x_byxc


class PreActivation(Block):
  """Version 2: x <- shortcut(x) + conv relu N … conv relu N x.

  Figure 1b of arXiv:1603.05027: a norm and an activation before each
  convolution, nothing after the sum. Where the shape changes, the shortcut
  reads what the first activation gives, as in the official code, and its
  projection has no norm. The network's first block has no first norm and
  activation of its own: those of the stem, right after its convolution, are
  for both paths (the paper's appendix).
  """

  def __init__(
    self,
    inputs: int,
    branch: Branch,
    *,
    layers: Layers,
    shortcut: str = "project",
    zero_gamma: bool = False,
    first: bool = False,
    drop_path_rate: float = 0.0,
  ):
    """Makes the convolutions and norms; see `PostActivation`.

    Raises:
      UserError: `zero_gamma`.
    """
    if zero_gamma:
      raise errors.UserError(
        "zero_gamma=True is for version='v1', whose branches end in a norm. In"
        " v2 a ReLU and a convolution follow the last norm: with a scale of"
        " zero they pass no gradient, and the branch would never start."
      )
    super().__init__(
      inputs,
      branch,
      shortcut=shortcut,
      project=layers.conv,
      drop_path_rate=drop_path_rate,
    )
    self.norm = None if first else layers.norm(inputs)
    convs, between = [], []
    for kernel_size, outputs, stride in branch:
      if convs:
        between.append(layers.norm(inputs))
      convs.append(
        layers.conv(inputs, outputs, kernel_size=kernel_size, stride=stride)
      )
      inputs = outputs
    self.convs, self.norms = nnx.List(convs), nnx.List(between)

  @property
  def norm_neighbours(self) -> dict[str, neighbours.Neighbours]:
    """See `nn.neighbours`: each norm but the first reads a convolution."""
    return {
      f"norms/{i}/norm": neighbours.Neighbours(writer=f"convs/{i}")
      for i in range(len(self.norms))
    }

  def __call__(
    self, x_byxc: Array, *, train: modes.Train = None, key: Array | None = None
  ) -> Array:
    """The stream after the block; the key is of drop path."""
    h_byxc = x_byxc if self.norm is None else self.norm(x_byxc, train=train)
    if self.changes_shape:
      x_byxc = self.shortcut(h_byxc, train=train)
    first, *rest = self.convs
    h_byxc = first(h_byxc, train=train)
    for norm, conv in zip(self.norms, rest, strict=True):
      h_byxc = conv(norm(h_byxc, train=train), train=train)
    x_byxc = x_byxc + self.dropped(h_byxc, train=train, key=key)
    self.sow(nnx.Intermediate, "stream", x_byxc, capture_noop=True)
    return x_byxc


VERSIONS = {"v1": PostActivation, "v2": PreActivation}
