"""The parameters that adapt: scale and bias of norms of activations."""

import re
from collections.abc import Mapping

from flax import nnx

from normjax import errors
from normjax.nn import model_roles, roles
from normjax.types import Array, PyTree

# Of the norm after the blocks.
_FINAL = ("norm/", "final_norm/")
_BLOCK = re.compile(r"(?:layers|norms|blocks)/(\d+)/")


def choose(method: str, model: nnx.Module, freeze: str = "") -> tuple[str, ...]:
  """Paths of what adapts, in the model's order.

  Args:
    method: who asks, for messages.
    model: its roles say what a parameter is.
    freeze: a regular expression that is searched for in the paths of what stays
      all the same; "" takes all; "top": the last stage, as SAR leaves it.

  Raises:
    UserError: nothing is left, or `freeze` is no regular expression.
  """
  found = model_roles.of(model)
  sizes = {path: value.size for path, value in _params(model).items()}
  affine = [
    path
    for path, role in found.params()
    if role.kind in (roles.Kind.NORM_SCALE, roles.Kind.NORM_BIAS)
    and role.norm is not None
    and role.norm.of == "activations"
  ]
  if not affine:
    raise errors.UserError(
      f"{method} adapts scale and bias of norms, and {found.model} has none."
    )
  if freeze == "top":
    chosen = _without_top(affine, sizes)
  else:
    try:
      pattern = re.compile(freeze)
    except (re.error, TypeError) as error:
      raise errors.UserError(
        f"{method}: freeze={freeze!r} is no regular expression: {error}."
      ) from error
    chosen = [p for p in affine if not freeze or not pattern.search(p)]
  if not chosen:
    raise errors.UserError(
      f"{method}: freeze={freeze!r} leaves nothing to adapt; there are:"
      f" {errors.few(affine, 4)}."
    )
  return tuple(chosen)


def output_kernel(method: str, model: nnx.Module) -> str:
  """The path of the last layer's kernel.

  Raises:
    UserError: no kernel is known as that.
  """
  for path, role in model_roles.of(model).params():
    if role.layer == "output" and role.kind is roles.Kind.KERNEL:
      return path
  raise errors.UserError(
    f"{method} needs to know the last layer of {type(model).__name__}: call"
    " it 'head', or say end_layers = normjax.nn.roles.Ends('first', 'last')."
  )


def num_classes(method: str, model: nnx.Module) -> int:
  """How many logits the model's last layer gives; see `output_kernel`."""
  path = output_kernel(method, model)
  place = path.rpartition("/")[0]
  for found, module in nnx.iter_modules(model):
    count = getattr(module, "num_classes", None)
    if count is not None and "/".join(map(str, found)) == place:
      return int(count)
  return int(_params(model)[path].shape[-1])


def check_classes(method: str, logits: Array, classes: int) -> None:
  """Raises UserError where `num_classes` was not that of the logits."""
  if logits.shape[-1] != classes:
    raise errors.UserError(
      f"{method}: the model gives logits {logits.shape}, and what is taken for"
      f" its last layer {classes} classes: name the layer in end_layers ="
      " normjax.nn.roles.Ends('first', 'last')."
    )


def of(params: PyTree, paths: tuple[str, ...]) -> dict[str, Array]:
  """The parameters of these paths."""
  return {path: _at(params, path) for path in paths}


def into(params: PyTree, values: Mapping[str, Array]) -> PyTree:
  """The parameters with these values at their paths."""
  new = dict(params)
  inner: dict[str, dict[str, Array]] = {}
  for path, value in values.items():
    first, _, rest = path.partition("/")
    if rest:
      inner.setdefault(first, {})[rest] = value
    else:
      new[first] = value
  for first, below in inner.items():
    new[first] = into(new[first], below)
  return new


def _without_top(affine: list[str], sizes: Mapping[str, int]) -> list[str]:
  """All but the last stage, and but what comes after the blocks.

  Of a network that gets wider the last stage is the blocks as wide as the last
  one, "layer4" of a ResNet; of one that does not, the last quarter, blocks 9 to
  11 of a ViT-B.
  """
  widths: dict[int, int] = {}
  for path in affine:
    if found := _BLOCK.search(path):
      number = int(found[1])
      widths[number] = max(widths.get(number, 0), sizes[path])
  if not widths:
    return affine
  last = max(widths)
  top = {n for n, width in widths.items() if width == widths[last]}
  if len(top) == len(widths):
    top = {n for n in widths if n > last - len(widths) // 4}

  def is_top(path: str) -> bool:
    block = _BLOCK.search(path)
    return int(block[1]) in top if block else path.startswith(_FINAL)

  return [path for path in affine if not is_top(path)]


def _params(model: nnx.Module) -> dict[str, Array]:
  return {
    "/".join(map(str, path)): variable.get_value()
    for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Param))
  }


def _at(tree: PyTree, path: str) -> Array:
  for key in path.split("/"):
    tree = tree[key]
  return tree
