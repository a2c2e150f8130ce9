"""A module's variables as plain nested dicts with string keys.

A path such as "layers/0/attention/query/kernel" then names the same leaf for
optimizers, checkpoints and probes, whatever Flax does inside.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from flax import nnx

from normjax import errors
from normjax.types import Array, PyTree


class NormStat(nnx.Variable):
  """A running statistic of the forward pass."""


class GradStat(nnx.Variable):
  """A statistic of the backward pass; its gradient is its new value."""


COLLECTIONS = {
  "params": nnx.Param,
  "stats": NormStat,
  "grad_stats": GradStat,
}


def attach_variables(
  module: nnx.Module, variables: Mapping[str, Mapping[str, Array]]
) -> None:
  """Makes attributes of a norm's variables, under their own names.

  Args:
    module: gets them.
    variables: by collection, as a norm's `init` makes them.
  """
  for collection, values in variables.items():
    for name, value in values.items():
      setattr(module, name, COLLECTIONS[collection](value))


def own_variables(module: nnx.Module) -> dict[str, dict[str, Array]]:
  """The arrays that are a module's own, by collection and name."""
  return {
    collection: {
      name: variable[...]
      for name, variable in vars(module).items()
      if isinstance(variable, kind)
    }
    for collection, kind in COLLECTIONS.items()
  }


class Structure(NamedTuple):
  """The static part of a module: hashable, so a compiled step may hold it."""

  graphdef: Any
  # (collection, Flax's own path) of each variable: lists have integer keys.
  paths: tuple[tuple[str, tuple[str | int, ...]], ...]


def split(module: nnx.Module) -> tuple[Structure, dict[str, PyTree]]:
  """A module as (structure, {"params", "stats", "grad_stats"}).

  Works on traced modules too.

  Args:
    module: holds no variables but nnx.Param, NormStat and GradStat.

  Returns:
    What `merge` takes: the static structure, and nested dicts of arrays.

  Raises:
    UserError: a variable of another type; the message names it.
  """
  graphdef, state = nnx.split(module)
  paths = []
  variables: dict[str, PyTree] = {name: {} for name in COLLECTIONS}
  for path, variable in nnx.to_flat_state(state):
    collection = _collection("/".join(map(str, path)), variable)
    paths.append((collection, path))
    *parents, last = map(str, path)
    node = variables[collection]
    for key in parents:
      node = node.setdefault(key, {})
    node[last] = variable.get_value()
  return Structure(graphdef, tuple(paths)), variables


def merge(structure: Structure, variables: dict[str, PyTree]) -> nnx.Module:
  """The module that `split` took apart, with these variables.

  The module is new: what it does to its statistics shows by splitting it
  again, and touches neither `variables` nor the module that was split.
  """
  flat = []
  for collection, path in structure.paths:
    value = variables[collection]
    for key in path:
      value = value[str(key)]
    flat.append((path, COLLECTIONS[collection](value)))
  return nnx.merge(structure.graphdef, nnx.from_flat_state(flat))


def write_stats(module: nnx.Module, stats: PyTree) -> None:
  """Sets a module's running statistics, as `split` gives them."""
  for path, _ in nnx.to_flat_state(nnx.state(module, NormStat)):
    value = stats
    for key in path:
      value = value[str(key)]
    owner = module
    for key in path[:-1]:
      owner = owner[key] if isinstance(key, int) else getattr(owner, key)
    getattr(owner, str(path[-1]))[...] = value


def _collection(path: str, variable: nnx.Variable) -> str:
  for name, kind in COLLECTIONS.items():
    if isinstance(variable, kind):
      return name
  raise errors.UserError(
    f"variable {path!r} is a {type(variable).__name__}; a module may hold"
    f" {', '.join(kind.__name__ for kind in COLLECTIONS.values())} only."
  )
