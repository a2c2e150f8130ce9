"""Residual networks: He et al., arXiv:1512.03385 and arXiv:1603.05027."""

from collections.abc import Callable, Sequence
from typing import ClassVar

import jax.numpy as jnp
from flax import nnx

from normjax import errors, norms, validate
from normjax.models import residual_blocks as blocks
from normjax.nn import checks, roles, shifted
from normjax.nn.dropout import drop_path_keys, drop_path_rates
from normjax.nn.output import Output
from normjax.nn.switches import HasNoise
from normjax.norms import modes, weights
from normjax.similarity import heads
from normjax.types import Array

Shape = tuple[int, int, int]


class ResNet(HasNoise):
  """Stem, stages of blocks, the mean over pixels, and a head.

  In version 2 a norm and an activation follow the last block. Kernels start
  He-normal (arXiv:1502.01852).
  """

  reads: ClassVar[frozenset[str]] = frozenset({"images"})
  end_layers: ClassVar[roles.Ends] = roles.Ends("stem", "head")
  draws_for: ClassVar[tuple[str, ...]] = ("layers", "head")  # `nn.shifted`.

  def __init__(
    self,
    num_classes: int,
    input_shape: Shape,
    *,
    branches: Sequence[blocks.Branch],
    stem: dict[str, int],
    pools: bool,
    version: str,
    shortcut: str,
    zero_gamma: bool,
    scale_init: str,
    bias_init: float,
    conv_norm_mode: str,
    drop_path_rate: float,
    head: heads.HeadSpec,
    norm: norms.NormSpec,
    weight_norm: weights.WeightNormSpec | None,
    compute_dtype: str,
    rngs: nnx.Rngs,
  ):
    """Makes the model; the networks below say what the options are.

    Args:
      num_classes: outputs.
      input_shape: (height, width, channels) of one image.
      branches: of each block, from the first to the last.
      stem: `outputs` of the first convolution and options of it.
      pools: whether a max pool follows the stem.
      version: one of `VERSIONS`.
      shortcut: one of `SHORTCUTS`.
      zero_gamma: of `PostActivation`.
      scale_init: one of `SCALE_INITS`.
      bias_init: where the norms' biases start.
      conv_norm_mode: of every `ConvNorm`.
      drop_path_rate: of the last block's branch.
      head: the last layer, by name, see `similarity.heads`.
      norm: at every site.
      weight_norm: of every convolution's kernel, by name; None: none.
      compute_dtype: "float32" or "bfloat16".
      rngs: stream "params".

    Raises:
      UserError: an option out of range.
    """
    checks.check_image_shape(input_shape)
    validate.counts("resnet", num_classes=num_classes)
    validate.choice("resnet", "version", version, blocks.VERSIONS)
    if version != "v1" and conv_norm_mode != "train":
      raise errors.UserError(
        f"conv_norm_mode={conv_norm_mode!r} is for version='v1', where a norm"
        f" follows each convolution; with version={version!r} it must be"
        " 'train'."
      )
    dtype = checks.compute_dtype(compute_dtype)
    block, inputs = blocks.VERSIONS[version], stem["outputs"]
    layers = blocks.make_layers(
      norm,
      channels=inputs,
      scale_init=scale_init,
      bias_init=bias_init,
      mode=conv_norm_mode,
      weight_norm=weight_norm,
      dtype=dtype,
      rngs=rngs,
    )
    if zero_gamma:
      option = "zero_gamma=True"
      blocks.check_starts(norms.resolve(norm), inputs, "scale", option)
    self.pools = pools
    self.stem = layers.conv_norm(input_shape[-1], **stem)
    self.drop_path_rate = drop_path_rate
    rates = drop_path_rates("resnet", drop_path_rate, len(branches))
    made = []
    for branch, rate in zip(branches, rates, strict=True):
      options = {"shortcut": shortcut, "zero_gamma": zero_gamma}
      made.append(
        block(
          inputs,
          branch,
          layers=layers,
          first=not made,
          drop_path_rate=rate,
          **options,
        )
      )
      inputs = branch[-1].outputs
    self.layers = nnx.List(made)
    self.norm = layers.norm(inputs) if version == "v2" else None
    self.head = heads.layer(head, inputs, num_classes, dtype=dtype, rngs=rngs)

  def __call__(
    self,
    images_byxc: Array,
    *,
    train: modes.Train = None,
    key: Array | None = None,
  ) -> Array | Output:
    """Class logits.

    Args:
      images_byxc: standardized, any float dtype.
      train: of the norms, and whether drop path is on; see `NormLayer`.
      key: of drop path; needed where there is some in training.

    Returns:
      (b, classes), float32; an `Output` where the head has embeddings.

    Raises:
      UserError: drop path in training without a key.
    """
    key = self.noise_key(train, key, drop_path_rate=self.drop_path_rate)
    keys = drop_path_keys(key, len(self.layers))
    x_byxc = self.stem(images_byxc, train=train)
    if self.pools:
      x_byxc = nnx.max_pool(x_byxc, (3, 3), (2, 2), ((1, 1), (1, 1)))
    for layer, layer_key in zip(self.layers, keys, strict=True):
      x_byxc = shifted.draw_after(layer, x_byxc)
      x_byxc = layer(x_byxc, train=train, key=layer_key)
    if self.norm is not None:
      x_byxc = self.norm(x_byxc, train=train)
    x_bc = jnp.mean(x_byxc, axis=(1, 2))
    return self.head(shifted.draw_after(self.head, x_bc))


class CifarResNet(ResNet):
  """The 6n + 2 layer network of section 4.2: three stages of n basic blocks."""

  def __init__(
    self,
    num_classes: int = 10,
    input_shape: Shape = (32, 32, 3),
    *,
    depth: int = 20,
    width: int = 16,
    version: str = "v1",
    shortcut: str = "pad",
    zero_gamma: bool = False,
    scale_init: str = "ones",
    bias_init: float = 0.0,
    conv_norm_mode: str = "train",
    drop_path_rate: float = 0.0,
    head: heads.HeadSpec = "linear",
    norm: norms.NormSpec = "batch_norm",
    weight_norm: weights.WeightNormSpec | None = None,
    compute_dtype: str = "float32",
    rngs: nnx.Rngs,
  ):
    """Makes the model.

    Args:
      num_classes: outputs.
      input_shape: (height, width, channels) of one image.
      depth: 6n + 2: 8, 14, 20, 32, 44, 56, 110, …
      width: channels of the first stage; doubled in each next one.
      version: "v1": norms and activations after the convolutions; "v2":
        before them (arXiv:1603.05027).
      shortcut: where the shape changes: "pad", every second pixel and zeros
        (the paper's option A), or "project", a 1x1 convolution of stride 2,
        with a norm in v1 (option B, and the network of arXiv:2003.00152).
      zero_gamma: v1: whether the scale of each branch's last norm starts at
        zero (arXiv:1706.02677, section 5.1).
      scale_init: how all other scales start: "ones"; "uniform" in (0, 1), as
        in BatchNorm-only training (arXiv:2003.00152); "uniform_symmetric" in
        (-1, 1).
      bias_init: where the norms' biases start.
      conv_norm_mode: "train"; v1 only, for going on with a trained network,
        "eval", whose running statistics are constants, or "tune", the same in
        less memory (arXiv:2305.11624).
      drop_path_rate: stochastic depth, timm's drop path: in training the branch
        of block i of n, from 0, is dropped at i / (n - 1) times this, an
        example at a time, and divided by what is kept.
      head: the last layer, by name, see `similarity.heads`.
      norm: at every site, by name.
      weight_norm: of every convolution's kernel, by name; None: none.
      compute_dtype: "float32" or "bfloat16"; parameters, statistics and
        logits are float32 either way.
      rngs: stream "params".

    Raises:
      UserError: a depth that is not 6n + 2, an input that is no image, or an
        option out of range.
    """
    validate.counts("resnet", width=width)
    counts = [check_cifar_depth(depth)] * 3
    super().__init__(
      num_classes,
      input_shape,
      branches=[blocks.basic(*site) for site in blocks.stages(width, counts)],
      stem={"outputs": width},
      pools=False,
      version=version,
      shortcut=shortcut,
      zero_gamma=zero_gamma,
      scale_init=scale_init,
      bias_init=bias_init,
      conv_norm_mode=conv_norm_mode,
      drop_path_rate=drop_path_rate,
      head=head,
      norm=norm,
      weight_norm=weight_norm,
      compute_dtype=compute_dtype,
      rngs=rngs,
    )


# Table 1 of arXiv:1512.03385: the branch, and the blocks of each stage.
DEPTHS: dict[int, tuple[Callable[..., blocks.Branch], tuple[int, ...]]] = {
  18: (blocks.basic, (2, 2, 2, 2)),
  34: (blocks.basic, (3, 4, 6, 3)),
  50: (blocks.bottleneck, (3, 4, 6, 3)),
  101: (blocks.bottleneck, (3, 4, 23, 3)),
  152: (blocks.bottleneck, (3, 8, 36, 3)),
}


class ImageNetResNet(ResNet):
  """The networks of table 1: a 7x7 stem, a max pool, four stages."""

  def __init__(
    self,
    num_classes: int = 1000,
    input_shape: Shape = (224, 224, 3),
    *,
    depth: int = 50,
    width: int = 64,
    stem_width: int | None = None,
    blocks_per_stage: Sequence[int] | None = None,
    version: str = "v1",
    stride_in: str = "3x3",
    shortcut: str = "project",
    zero_gamma: bool = False,
    scale_init: str = "ones",
    bias_init: float = 0.0,
    conv_norm_mode: str = "train",
    drop_path_rate: float = 0.0,
    head: heads.HeadSpec = "linear",
    norm: norms.NormSpec = "batch_norm",
    weight_norm: weights.WeightNormSpec | None = None,
    compute_dtype: str = "float32",
    rngs: nnx.Rngs,
  ):
    """Makes the model; what is not said here is as in `CifarResNet`.

    Args:
      num_classes: outputs.
      input_shape: (height, width, channels) of one image.
      depth: 18 or 34, of basic blocks; 50, 101 or 152, of bottlenecks.
      width: channels of the first stage, the inner ones of bottlenecks;
        doubled in each next stage.
      stem_width: channels of the stem; None: `width`.
      blocks_per_stage: in place of those that the depth has, for smaller
        networks.
      version: "v1" or "v2".
      stride_in: which convolution of a bottleneck has the stride: "3x3"
        (version 1.5, as torchvision) or "1x1" (the paper).
      shortcut: "project" or "pad".
      zero_gamma: v1: the scale of each branch's last norm starts at zero.
      scale_init: how all other scales start.
      bias_init: where the norms' biases start.
      conv_norm_mode: "train", "eval" or "tune".
      drop_path_rate: stochastic depth.
      head: the last layer, by name, see `similarity.heads`.
      norm: at every site, by name.
      weight_norm: of every convolution's kernel, by name; None: none.
      compute_dtype: "float32" or "bfloat16".
      rngs: stream "params".

    Raises:
      UserError: an unknown depth, an input that is no image, or an option out
        of range.
    """
    validate.choice("resnet", "depth", depth, DEPTHS)
    if stem_width is None:
      stem_width = width
    validate.counts("resnet", width=width, stem_width=stem_width)
    validate.choice("resnet", "stride_in", stride_in, ("3x3", "1x1"))
    branch, counts = DEPTHS[depth]
    if blocks_per_stage is not None:
      counts = tuple(blocks_per_stage)
      for stage, count in enumerate(counts):
        validate.counts("resnet", **{f"blocks_per_stage[{stage}]": count})
    options = {} if branch is blocks.basic else {"stride_in": stride_in}
    super().__init__(
      num_classes,
      input_shape,
      branches=[
        branch(*site, **options) for site in blocks.stages(width, counts)
      ],
      stem={"outputs": stem_width, "kernel_size": 7, "stride": 2},
      pools=True,
      version=version,
      shortcut=shortcut,
      zero_gamma=zero_gamma,
      scale_init=scale_init,
      bias_init=bias_init,
      conv_norm_mode=conv_norm_mode,
      drop_path_rate=drop_path_rate,
      head=head,
      norm=norm,
      weight_norm=weight_norm,
      compute_dtype=compute_dtype,
      rngs=rngs,
    )


def check_cifar_depth(depth: int) -> int:
  """The blocks a stage, n, of 6n + 2 layers.

  Raises:
    UserError: another depth.
  """
  validate.counts("resnet", depth=depth)
  if depth < 8 or (depth - 2) % 6:
    raise errors.UserError(
      f"depth={depth} must be 6n + 2: 8, 14, 20, 32, 44, 56, 110."
    )
  return (depth - 2) // 6
