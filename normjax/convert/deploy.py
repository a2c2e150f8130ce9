"""Start step: norms folded into convolutions for good, arXiv:2305.11624."""

from flax import nnx

from normjax import errors
from normjax.nn import start
from normjax.nn.conv import Conv
from normjax.nn.conv_norm import ConvNorm
from normjax.nn.norm_layer import NormLayer
from normjax.types import Array


def deploy[Model: nnx.Module](model: Model) -> Model:
  """A model whose convolutions have absorbed the norms that follow them.

  Each `ConvNorm` becomes a convolution with bias, of the kernel and bias of
  `nn.folding.fold`, and an activation. The new model computes in training and
  evaluation what `model` computes in evaluation, with one rounding less a
  feature map. Trained further it moves otherwise: its kernels are c times the
  old ones, c = scale / sqrt(var + eps), so that a gradient step which used to
  move a folded kernel by c^2 moves it by 1.

  Args:
    model: holds `ConvNorm`s somewhere; stays as it is. What else it holds,
      norms that follow no convolution too, is copied.

  Raises:
    UserError: no `ConvNorm` is there, or the norm of one cannot be folded; the
      message names them.
  """
  model = nnx.clone(model)
  sites = {
    "/".join(map(str, path)): module
    for path, module in nnx.iter_modules(model)
    if isinstance(module, ConvNorm)
  }
  if not sites:
    raise errors.UserError(
      f"deploy folds what is a ConvNorm, and {type(model).__name__} holds none."
    )
  stuck = [
    f"{path or 'the model'} ({site.norm.norm.norm.name})"
    for path, site in sites.items()
    if not site.norm.norm.norm.traits.foldable
  ]
  if stuck:
    raise errors.UserError(
      "deploy cannot fold norms that are no affine maps of a channel at"
      f" evaluation: {', '.join(stuck)}."
    )
  for site in sites.values():
    _absorb(site)
  return model


def start_step() -> start.StartStep:
  """`deploy` before a run: what follows trains the folded model."""
  return start.of_module(deploy)


def _absorb(site: ConvNorm) -> None:
  """Puts the folded kernel and bias into the convolution."""
  old = site.conv
  kernel, bias = site.folded()
  size, _, inputs, outputs = kernel.shape
  site.conv = Conv(
    inputs * old.groups,
    outputs,
    kernel_size=size,
    stride=old.stride,
    groups=old.groups,
    use_bias=True,
    padding=old.padding,
    kernel_init=lambda *_: kernel,
    dtype=old.dtype,
    rngs=nnx.Rngs(0),
  )
  _set(site.conv.bias, bias)
  site.norm.norm = NormLayer("identity", (outputs,))
  site.mode = "train"


def _set(variable: nnx.Param, value: Array) -> None:
  # A new value, not a write into the old one: its dtype may be wider.
  variable.set_value(value)
