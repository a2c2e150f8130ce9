"""Residual networks without norms: Brock et al. 2021, arXiv:2101.08692."""

from collections.abc import Mapping, Sequence

from flax import nnx

from normjax import errors, norms, validate
from normjax.models import norm_free, standardized
from normjax.nn import checks

# Blocks of each stage, by depth.
DEPTHS: Mapping[int, tuple[int, ...]] = {
  50: (3, 4, 6, 3),
  101: (3, 4, 23, 3),
  152: (3, 8, 36, 3),
  200: (3, 24, 36, 3),
  288: (24, 24, 24, 24),
  600: (50, 50, 50, 50),
}


class _NFResNet(norm_free.NormFree):
  """Bottlenecks without norms; the subclasses say the sizes."""

  def _make(
    self,
    num_classes: int,
    input_shape: tuple[int, int, int],
    *,
    stem: int,
    widths: Sequence[int],
    depths: Sequence[int],
    for_large_images: bool,
    pool_shortcut: bool,
    alpha: float,
    skip_init: bool,
    se_ratio: float | None,
    stochastic_depth_rate: float,
    dropout_rate: float,
    activation: str,
    activation_gain: str,
    activation_gain_in: str,
    weight_standardization: str,
    weight_standardization_eps: float | None,
    padding: str,
    stem_bias: bool,
    norm: norms.NormSpec,
    compute_dtype: str,
    rngs: nnx.Rngs,
  ) -> None:
    checks.check_no_norm(norm)
    checks.check_image_shape(input_shape)
    validate.counts("nf_resnet", num_classes=num_classes)
    validate.positive("nf_resnet", alpha=alpha)
    validate.rates(
      "nf_resnet",
      stochastic_depth_rate=stochastic_depth_rate,
      dropout_rate=dropout_rate,
    )
    activate, convs = standardized.resolve(
      "nf_resnet",
      activation=activation,
      activation_gain=activation_gain,
      activation_gain_in=activation_gain_in,
      weight_standardization=weight_standardization,
      weight_standardization_eps=weight_standardization_eps,
      padding=padding,
      compute_dtype=compute_dtype,
    )
    branch = norm_free.Branch(
      activation=activate,
      alpha=alpha,
      expansion=0.25,
      group_size=None,
      num_inner=1,
      pool_shortcut=pool_shortcut,
      se_ratio=se_ratio,
      skip_init=skip_init,
      convs=convs,
    )
    self.stem = norm_free.Stem(
      (input_shape[-1], stem),
      (7 if for_large_images else 3,),
      (2 if for_large_images else 1,),
      activation=activate,
      convs=convs,
      pool=for_large_images,
      use_bias=stem_bias,
      rngs=rngs,
    )
    self._build(
      num_classes,
      stem,
      widths,
      depths,
      (1,) + (2,) * (len(depths) - 1),
      branch=branch,
      final_channels=None,
      stochastic_depth_rate=stochastic_depth_rate,
      dropout_rate=dropout_rate,
      rngs=rngs,
    )


class NFResNet(_NFResNet):
  """NF-ResNet for ImageNet: four stages of bottlenecks, no norms.

  Scaled weight standardization, gained activations and the expected standard
  deviation of the stream, which each branch is divided by, keep the variances
  that batch norm would set (arXiv:2101.08692, sections 3 and 4). Layout as in
  deepmind-research nfnets/nf_resnet.py.
  """

  def __init__(
    self,
    num_classes: int = 1000,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    *,
    depth: int = 50,
    width: int = 4,
    blocks_per_stage: Sequence[int] | None = None,
    alpha: float = 0.2,
    skip_init: bool = True,
    se_ratio: float | None = None,
    stochastic_depth_rate: float = 0.1,
    dropout_rate: float = 0.0,
    activation: str = "relu",
    activation_gain: str = "official",
    activation_gain_in: str = "activations",
    weight_standardization: str = "floor",
    weight_standardization_eps: float | None = None,
    padding: str = "same",
    stem_bias: bool = False,
    pool_shortcut: bool = False,
    norm: norms.NormSpec = "identity",
    compute_dtype: str = "float32",
    rngs: nnx.Rngs,
  ):
    """Makes the model.

    Args:
      num_classes: outputs.
      input_shape: (height, width, channels) of one image.
      depth: 50, 101, 152, 200, 288 or 600.
      width: the stages have 64, 128, 256 and 512 times this, the stem 16; 4
        is the usual width.
      blocks_per_stage: in place of those that the depth has, for smaller
        networks; at most four numbers.
      alpha: what multiplies the residual branches, > 0.
      skip_init: whether a learned scalar, 0 at first, multiplies each branch
        too: the official code's choice. The analysis of variances is of the
        network without.
      se_ratio: of squeeze and excitation; None: none.
      stochastic_depth_rate: block k of n is dropped at k / n times this, an
        example at a time, in training; without rescaling.
      dropout_rate: before the head; the official code leaves it to its user.
      activation: one with a gain, of `nn.gains`.
      activation_gain: "official", the constants of the authors' code, or
        "exact".
      activation_gain_in: where that gain is: in the "activations", the authors'
        code, or in the "kernels" of all convolutions, timm's. The stem, a last
        convolution and the head then see another scale.
      weight_standardization: how eps enters (`norms.weights`): "floor", the
        authors' code, sqrt(max(n var, eps)), or "added", timm's,
        sqrt(n (var + eps)).
      weight_standardization_eps: None: 1e-4 with "floor", 1e-6 with "added",
        of which timm's networks have 1e-5.
      padding: "same", the authors' code, TensorFlow's, or "half" of a kernel on
        each side, PyTorch's; they differ where the stride is 2.
      stem_bias: whether the stem has a bias. The official code asks for none
        (with_bias=False of its `initial_conv`), but its layer adds one all the
        same, and timm's has one: for such weights, True.
      pool_shortcut: whether a shortcut with stride is a 2 x 2 mean before its
        convolution, as in NFNets and in timm, or that convolution has the
        stride, the authors' code.
      norm: "identity": there are none.
      compute_dtype: "float32" or "bfloat16"; parameters and logits are
        float32 either way.
      rngs: stream "params".

    Raises:
      UserError: an option out of range, or a norm.
    """
    if depth not in DEPTHS:
      raise errors.UserError(
        f"depth={depth!r}; allowed: {', '.join(map(str, DEPTHS))}."
      )
    validate.counts("nf_resnet", width=width)
    if blocks_per_stage is None:
      blocks_per_stage = DEPTHS[depth]
    counts = tuple(blocks_per_stage)
    if not 1 <= len(counts) <= 4:
      raise errors.UserError(
        f"blocks_per_stage={counts} must be one to four numbers."
      )
    for stage, count in enumerate(counts):
      validate.counts("nf_resnet", **{f"blocks_per_stage[{stage}]": count})
    widths = [base * width for base in (64, 128, 256, 512)]
    self._make(
      num_classes,
      input_shape,
      stem=16 * width,
      widths=widths[: len(counts)],
      depths=counts,
      for_large_images=True,
      alpha=alpha,
      skip_init=skip_init,
      se_ratio=se_ratio,
      stochastic_depth_rate=stochastic_depth_rate,
      dropout_rate=dropout_rate,
      activation=activation,
      activation_gain=activation_gain,
      activation_gain_in=activation_gain_in,
      weight_standardization=weight_standardization,
      weight_standardization_eps=weight_standardization_eps,
      padding=padding,
      stem_bias=stem_bias,
      pool_shortcut=pool_shortcut,
      norm=norm,
      compute_dtype=compute_dtype,
      rngs=rngs,
    )


class CifarNFResNet(_NFResNet):
  """NF-ResNet for small images: three stages of n bottlenecks, 9n + 2 layers.

  The blocks of `NFResNet` in the layout of the bottleneck networks for CIFAR
  of arXiv:1603.05027: a 3 x 3 stem, stages of 16, 32 and 64 channels times
  `width`. This size is ours; the papers have ImageNet's only.
  """

  def __init__(
    self,
    num_classes: int = 10,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    *,
    depth: int = 29,
    width: int = 4,
    alpha: float = 0.2,
    skip_init: bool = True,
    se_ratio: float | None = None,
    stochastic_depth_rate: float = 0.0,
    dropout_rate: float = 0.0,
    activation: str = "relu",
    activation_gain: str = "official",
    activation_gain_in: str = "activations",
    weight_standardization: str = "floor",
    weight_standardization_eps: float | None = None,
    padding: str = "same",
    stem_bias: bool = False,
    pool_shortcut: bool = False,
    norm: norms.NormSpec = "identity",
    compute_dtype: str = "float32",
    rngs: nnx.Rngs,
  ):
    """Makes the model; the arguments are those of `NFResNet`, but for these.

    Args:
      num_classes: outputs.
      input_shape: (height, width, channels) of one image.
      depth: 9n + 2: 11, 20, 29, 38, 47, 56, …
      width: the stages have 16, 32 and 64 times this, the stem 4.
      alpha: as in `NFResNet`.
      skip_init: as in `NFResNet`.
      se_ratio: as in `NFResNet`.
      stochastic_depth_rate: as in `NFResNet`.
      dropout_rate: as in `NFResNet`.
      activation: as in `NFResNet`.
      activation_gain: as in `NFResNet`.
      activation_gain_in: as in `NFResNet`.
      weight_standardization: as in `NFResNet`.
      weight_standardization_eps: as in `NFResNet`.
      padding: as in `NFResNet`.
      stem_bias: as in `NFResNet`.
      pool_shortcut: as in `NFResNet`.
      norm: as in `NFResNet`.
      compute_dtype: as in `NFResNet`.
      rngs: stream "params".

    Raises:
      UserError: an option out of range, or a norm.
    """
    validate.counts("nf_resnet", depth=depth, width=width)
    if depth < 11 or (depth - 2) % 9:
      raise errors.UserError(
        f"depth={depth} must be 9n + 2: 11, 20, 29, 38, 47, 56."
      )
    self._make(
      num_classes,
      input_shape,
      stem=4 * width,
      widths=tuple(base * width for base in (16, 32, 64)),
      depths=((depth - 2) // 9,) * 3,
      for_large_images=False,
      alpha=alpha,
      skip_init=skip_init,
      se_ratio=se_ratio,
      stochastic_depth_rate=stochastic_depth_rate,
      dropout_rate=dropout_rate,
      activation=activation,
      activation_gain=activation_gain,
      activation_gain_in=activation_gain_in,
      weight_standardization=weight_standardization,
      weight_standardization_eps=weight_standardization_eps,
      padding=padding,
      stem_bias=stem_bias,
      pool_shortcut=pool_shortcut,
      norm=norm,
      compute_dtype=compute_dtype,
      rngs=rngs,
    )
