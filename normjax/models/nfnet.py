"""NFNets: Brock et al. 2021, arXiv:2102.06171."""

from collections.abc import Mapping, Sequence

from flax import nnx

from normjax import errors, norms, validate
from normjax.models import norm_free, standardized
from normjax.nn import checks

# Dropout of the head, by variant: table 1 and the official code.
DROPOUT_RATES: Mapping[str, float] = {
  "F0": 0.2,
  "F1": 0.3,
  "F2": 0.4,
  "F3": 0.4,
  "F4": 0.5,
  "F5": 0.5,
  "F6": 0.5,
  "F7": 0.5,
}
_WIDTHS = (256, 512, 1536, 1536)
_DEPTHS = (1, 2, 6, 3)


class NFNet(norm_free.NormFree):
  """NFNet-F0 to F7: grouped bottlenecks without norms, for ImageNet.

  Beside `NFResNet`: two 3 x 3 convolutions of groups of 128 in a branch half
  as wide as the stream, squeeze and excitation, a stem of four convolutions,
  shortcuts that average before they convolve, and a last convolution to twice
  the channels (arXiv:2102.06171, section 5). F_n has n + 1 times the blocks of
  F0. Layout as in deepmind-research nfnets/nfnet.py; `nfnet_sgd` trains it.
  """

  def __init__(
    self,
    num_classes: int = 1000,
    input_shape: tuple[int, int, int] = (192, 192, 3),
    *,
    variant: str = "F0",
    widths: Sequence[int] | None = None,
    blocks_per_stage: Sequence[int] | None = None,
    group_size: int = 128,
    expansion: float = 0.5,
    stem_channels: Sequence[int] | None = None,
    final_expansion: float = 2.0,
    alpha: float = 0.2,
    skip_init: bool = True,
    se_ratio: float | None = 0.5,
    stochastic_depth_rate: float = 0.1,
    dropout_rate: float | None = None,
    activation: str = "gelu",
    activation_gain: str = "official",
    activation_gain_in: str = "activations",
    weight_standardization: str = "floor",
    weight_standardization_eps: float | None = None,
    padding: str = "same",
    norm: norms.NormSpec = "identity",
    compute_dtype: str = "float32",
    rngs: nnx.Rngs,
  ):
    """Makes the model.

    Args:
      num_classes: outputs.
      input_shape: (height, width, channels) of one image; F0 trains on 192
        pixels and is evaluated on 256.
      variant: "F0" to "F7".
      widths: channels of each stage, for other sizes; None: the variant's.
      blocks_per_stage: as many numbers; None: the variant's.
      group_size: channels in a group of the 3 x 3 convolutions.
      expansion: channels inside a branch over those of the stream; 1/4 in
        timm's nfnet_l0.
      stem_channels: after each of the stem's four convolutions; None: 16, 32,
        64 and half of the first width.
      final_expansion: channels of the last convolution over those of the last
        stage.
      alpha: what multiplies the residual branches, > 0.
      skip_init: whether a learned scalar, 0 at first, multiplies each branch
        too.
      se_ratio: of squeeze and excitation; None: none.
      stochastic_depth_rate: block k of n is dropped at k / n times this, an
        example at a time, in training; without rescaling. The official
        ImageNet runs have 0.25.
      dropout_rate: before the head; None: the variant's.
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
      norm: "identity": there are none.
      compute_dtype: "float32" or "bfloat16"; parameters and logits are
        float32 either way.
      rngs: stream "params".

    Raises:
      UserError: an option out of range, or a norm.
    """
    if variant not in DROPOUT_RATES:
      raise errors.UserError(
        f"variant={variant!r}; allowed: {', '.join(DROPOUT_RATES)}."
      )
    times = list(DROPOUT_RATES).index(variant) + 1
    if widths is None:
      widths = _WIDTHS
    if blocks_per_stage is None:
      blocks_per_stage = tuple(depth * times for depth in _DEPTHS)
    if dropout_rate is None:
      dropout_rate = DROPOUT_RATES[variant]
    checks.check_no_norm(norm)
    checks.check_image_shape(input_shape)
    validate.counts("nfnet", num_classes=num_classes, group_size=group_size)
    validate.positive(
      "nfnet",
      alpha=alpha,
      expansion=expansion,
      final_expansion=final_expansion,
    )
    validate.rates(
      "nfnet",
      stochastic_depth_rate=stochastic_depth_rate,
      dropout_rate=dropout_rate,
    )
    widths, depths = tuple(widths), tuple(blocks_per_stage)
    _check_stages(widths, depths, group_size, expansion)
    stem = _stem_channels(stem_channels, widths)
    activate, convs = standardized.resolve(
      "nfnet",
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
      expansion=expansion,
      group_size=group_size,
      num_inner=2,
      pool_shortcut=True,
      se_ratio=se_ratio,
      skip_init=skip_init,
      convs=convs,
    )
    self.stem = norm_free.Stem(
      (input_shape[-1], *stem),
      (3, 3, 3, 3),
      (2, 1, 1, 2),
      activation=activate,
      convs=convs,
      rngs=rngs,
    )
    self._build(
      num_classes,
      stem[-1],
      widths,
      depths,
      (1,) + (2,) * (len(depths) - 1),
      branch=branch,
      final_channels=int(final_expansion * widths[-1]),
      stochastic_depth_rate=stochastic_depth_rate,
      dropout_rate=dropout_rate,
      rngs=rngs,
    )


def _stem_channels(
  channels: Sequence[int] | None, widths: tuple[int, ...]
) -> tuple[int, ...]:
  if channels is None:
    return (16, 32, 64, widths[0] // 2)
  channels = tuple(channels)
  if len(channels) != 4:
    raise errors.UserError(
      f"nfnet: stem_channels={channels}; allowed: four numbers, one for each"
      " convolution of the stem."
    )
  for count in channels:
    validate.counts("nfnet", stem_channels=count)
  return channels


def _check_stages(
  widths: tuple[int, ...],
  depths: tuple[int, ...],
  group_size: int,
  expansion: float,
) -> None:
  if not widths or len(widths) != len(depths):
    raise errors.UserError(
      f"widths={widths} and blocks_per_stage={depths} must be as many, and not"
      " none."
    )
  for width, depth in zip(widths, depths, strict=True):
    validate.counts("nfnet", widths=width, blocks_per_stage=depth)
    if int(width * expansion) < group_size:
      raise errors.UserError(
        f"widths={widths}: expansion={expansion} of {width} channels is less"
        f" than a group of group_size={group_size}."
      )
