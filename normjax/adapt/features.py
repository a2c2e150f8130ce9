"""What the last layer of a model reads."""

from typing import Any

from flax import nnx

from normjax import errors
from normjax.adapt import affine, base
from normjax.nn import calling, norm_sites
from normjax.nn import output as outputs
from normjax.nn.variables import Structure, merge
from normjax.norms import moments
from normjax.types import Array


class Watched(nnx.Module):
  """A layer that keeps what it was called with."""

  def __init__(self, layer: nnx.Module):
    """Takes the layer over."""
    self.layer = layer

  def __call__(self, x: Array, *args: Any, **options: Any) -> Any:
    """Calls the layer."""
    self.inputs = nnx.Intermediate(x)
    return self.layer(x, *args, **options)


def watched(method: str, model: nnx.Module) -> nnx.Module:
  """The model, its last layer watched; it is changed.

  Raises:
    UserError: nothing is known as its last layer.
  """
  place = affine.output_kernel(method, model).rpartition("/")[0]
  for path, module in nnx.iter_modules(model):
    if "/".join(map(str, path)) == place:
      return norm_sites.replace(model, {id(module): Watched(module)})
  raise AssertionError(f"no module at {place!r}")


def predict(
  structure: Structure, variables: base.Variables, inputs: Array
) -> tuple[Array, Array]:
  """(logits (b, classes), what the last layer read (b, f)).

  Raises:
    UserError: a model of several answers per example.
  """
  model = merge(structure, variables)
  returned = calling.call(model, inputs, train=False)
  logits = moments.promote(outputs.as_output(returned).logits)
  (found,) = (m for _, m in nnx.iter_modules(model) if isinstance(m, Watched))
  features = moments.promote(found.inputs[...])
  if logits.ndim != 2 or features.ndim != 2:
    raise errors.UserError(
      f"one answer per example is needed; got logits {logits.shape} from"
      f" features {features.shape}."
    )
  return logits, features
