"""Start step: a norm for each domain, from the batch norms of another run."""

from typing import Any

import jax
import numpy as np
from flax import nnx

from normjax import errors
from normjax.nn import start
from normjax.nn import variables as nn_variables
from normjax.nn.norm_layer import NormLayer
from normjax.nn.variables import Structure
from normjax.train import from_run

_NORM = "dsbn"


def domains_from_batch_norm(directory: str = "") -> start.StartStep:
  """A run's last checkpoint, its batch norms copied to every domain of `dsbn`.

  How the official code begins its training by domain, arXiv:1906.03950. The
  run's model is this one but for its norms, which are `batch_norm`: scale,
  bias, mean and variance (c,) become rows of (domains, c), all the same. A
  model scanned over layers has one more axis in front.

  Args:
    directory: the run's folder.

  Raises:
    UserError: no folder is named. The step itself raises it for a model
      without `dsbn`, and for what a start from a run refuses.
  """
  if not isinstance(directory, str) or not directory:
    raise errors.UserError(
      f"start step 'domains_from_batch_norm' has directory={directory!r};"
      " needed: the folder of a run with batch norms."
    )

  def check(model: Structure, shapes: start.Variables) -> None:
    from_run.check_saved(directory, _without_domains(model, shapes))

  def apply(
    model: Structure, variables: start.Variables
  ) -> tuple[Structure, start.Variables]:
    found = from_run.read(directory, _without_domains(model, variables))
    return model, jax.tree.map(_in_rows, found, variables)

  return start.StartStep(apply, changes_structure=False, check=check)


def _in_rows(value: Any, wanted: Any) -> Any:
  """The value, in every row where the wanted one has rows of domains."""
  if value.ndim == wanted.ndim:
    return value
  return np.broadcast_to(np.expand_dims(value, -2), wanted.shape)


def _without_domains(
  model: Structure, variables: start.Variables
) -> start.Variables:
  """Shapes of the variables that batch norms would have.

  Raises:
    UserError: no norm of the model is by domain.
  """
  module = nn_variables.merge(model, variables)
  places = {
    tuple(map(str, path))
    for path, layer in nnx.iter_modules(module)
    if isinstance(layer, NormLayer) and layer.norm.name == _NORM
  }
  if not places:
    raise errors.UserError(f"the model has no norm {_NORM!r}.")

  def shape(path: tuple[Any, ...], leaf: Any) -> jax.ShapeDtypeStruct:
    _, *names = (key.key for key in path)  # After the collection.
    own = leaf.shape
    if any(tuple(names[: len(place)]) == place for place in places):
      own = (*own[:-2], own[-1])
    return jax.ShapeDtypeStruct(own, leaf.dtype)

  return jax.tree_util.tree_map_with_path(shape, variables)
