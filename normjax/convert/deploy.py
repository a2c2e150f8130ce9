"""Start step: norms folded into convolutions for good, arXiv:2305.11624."""

from flax import nnx

from normjax import errors
from normjax.convert import folding
from normjax.nn import start
from normjax.nn.conv_norm import ConvNorm


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
    folding.into_writer(site.norm.norm, site.conv)
    site.mode = "train"  # Nothing is left for the others to do.
  return model


def start_step() -> start.StartStep:
  """`deploy` before a run: what follows trains the folded model."""
  return start.of_module(deploy)
