"""A module's variables as plain nested dicts with string keys.

A path such as "layers/0/attention/query/kernel" then names the same leaf for
optimizers, checkpoints and probes, whatever Flax does inside.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from normjax import errors
from normjax.nn import shifted
from normjax.types import Array, PyTree


class NormStat(nnx.Variable):
  """A running statistic of the forward pass."""


class GradStat(nnx.Variable):
  """A statistic of the backward pass; its gradient is its new value."""


# Linen's collection of the same, as Flax's `TrainState` knows it.
nnx.register_variable_name("_overwrite_with_gradient", GradStat)

# What a call leaves behind without changing what the module is.
_MOMENTARY = (nnx.Intermediate, nnx.Perturbation)


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


def adopt_arrays(module: nnx.Module) -> None:
  """Makes plain arrays that are attributes part of a module's state.

  Flax does so by itself, but for arrays that are made while it traces.
  """
  for _, inner in nnx.iter_modules(module):
    for name, value in list(vars(inner).items()):
      if isinstance(value, jax.Array):
        setattr(inner, name, nnx.data(value))


class Structure(NamedTuple):
  """The static part of a module: hashable, so a compiled step may hold it."""

  graphdef: Any
  # (collection, Flax's own path) of each variable: lists have integer keys.
  paths: tuple[tuple[str, tuple[str | int, ...]], ...]
  # (path, shape, whether it is a key) of the module's own random streams.
  streams: tuple[tuple[tuple[str | int, ...], tuple[int, ...], bool], ...] = ()


def split(module: nnx.Module) -> tuple[Structure, dict[str, PyTree]]:
  """A module as (structure, {"params", "stats", "grad_stats"}).

  What is no nnx.Param and no GradStat is a statistic: NormStat, Flax's
  BatchStat and Cache, a Variable of one's own, a plain array. The streams of
  nnx.Rngs (RngState) are neither: `merge` seeds them. Works on traced modules
  too.

  Args:
    module: any.

  Returns:
    What `merge` takes: the static structure, and nested dicts of arrays.

  Raises:
    UserError: a variable that holds no array, or a parameter that no gradient
      moves; the message names it.
  """
  graphdef, state = nnx.split(module)
  paths, streams = [], []
  variables: dict[str, PyTree] = {name: {} for name in COLLECTIONS}
  for path, variable in nnx.to_flat_state(state):
    value = value_of(variable)
    if isinstance(variable, nnx.RngState):
      is_key = isinstance(variable, nnx.RngKey)
      streams.append((path, value.shape, is_key))
      continue
    collection = _collection(variable)
    _check("/".join(map(str, path)), collection, value)
    paths.append((collection, path))
    *parents, last = map(str, path)
    node = variables[collection]
    for key in parents:
      node = node.setdefault(key, {})
    node[last] = value
  return Structure(graphdef, tuple(paths), tuple(streams)), variables


def merge(
  structure: Structure,
  variables: dict[str, PyTree],
  key: Array | None = None,
) -> nnx.Module:
  """The module that `split` took apart, with these variables.

  The module is new: what it does to its statistics shows by splitting it
  again, and touches neither `variables` nor the module that was split.

  Args:
    structure: of the module.
    variables: as `split` gives them; some leaves may be `shifted.Shifted`.
    key: seeds the module's own random streams, each with a key of its own;
      None: always the same.
  """
  flat: list[tuple[Any, Any]] = [
    (path, _at(variables[collection], path))
    for collection, path in structure.paths
  ]
  if structure.streams:
    key = jax.random.key(0) if key is None else key
  for index, (path, shape, is_key) in enumerate(structure.streams):
    if not is_key:
      flat.append((path, jnp.zeros(shape, jnp.uint32)))
      continue
    own = jax.random.fold_in(key, index)
    flat.append((path, jax.random.split(own, shape) if shape else own))
  module = nnx.merge(structure.graphdef, nnx.from_flat_state(flat))
  if any(shifted.is_shifted(value) for _, value in flat):
    shifted.draw(module)
  return module


def new_stats(
  structure: Structure, module: nnx.Module, before: PyTree
) -> PyTree:
  """The running statistics of a module that was called.

  Args:
    structure: what it was merged from.
    module: after the call.
    before: its statistics before the call.

  Raises:
    UserError: the call changed what the module consists of.
  """
  found = dict(nnx.to_flat_state(nnx.state(module)))
  known = {path for _, path in structure.paths}
  known |= {path for path, *_ in structure.streams}
  for path, variable in found.items():
    if path not in known and not isinstance(variable, _MOMENTARY):
      raise errors.UserError(
        f"the call makes the variable {_named(path)}, a"
        f" {type(variable).__name__}; a variable is made where the model is,"
        " in __init__, and a call changes its value alone."
      )
  stats: PyTree = {}
  for collection, path in structure.paths:
    if path not in found:
      raise errors.UserError(
        f"the call removes the variable {_named(path)}; it must stay."
      )
    if collection != "stats":
      continue
    old, new = _at(before, path), jnp.asarray(value_of(found[path]))
    if (old.shape, old.dtype) != (new.shape, new.dtype):
      raise errors.UserError(
        f"the call makes the statistic {_named(path)} {new.dtype}"
        f"{list(new.shape)}; it was {old.dtype}{list(old.shape)}, and must"
        " stay so."
      )
    node = stats
    for key in path[:-1]:
      node = node.setdefault(str(key), {})
    node[str(path[-1])] = new
  return stats


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


def _named(path: tuple[str | int, ...]) -> str:
  return repr("/".join(map(str, path)))


def _at(tree: PyTree, path: tuple[str | int, ...]) -> Any:
  for key in path:
    tree = tree[str(key)]
  return tree


def value_of(variable: Any) -> Any:
  """What a variable holds; an array that is no variable is itself."""
  is_variable = isinstance(variable, nnx.Variable)
  return variable.get_value() if is_variable else variable


def _collection(variable: Any) -> str:
  for name, kind in COLLECTIONS.items():
    if isinstance(variable, kind):
      return name
  return "stats"


def _check(path: str, collection: str, value: Any) -> None:
  if not hasattr(value, "shape") or not hasattr(value, "dtype"):
    raise errors.UserError(
      f"variable {path!r} holds a {type(value).__name__}; needed: an array."
    )
  if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
    raise errors.UserError(
      f"variable {path!r} holds a random key; a model draws from the"
      " nnx.Rngs that its factory is given, or from the key of its call."
    )
  if collection == "params" and not jnp.issubdtype(value.dtype, jnp.floating):
    raise errors.UserError(
      f"parameter {path!r} is {value.dtype}, which no gradient moves; needed:"
      " floats in an nnx.Param, anything else in an nnx.Variable."
    )
