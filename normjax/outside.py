"""What components of a user's own must be, said before one is used.

Those of the tables are held to it by their contract tests.
"""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import optax
from flax import nnx

from normjax import errors
from normjax.imports import is_outside
from normjax.types import PyTree

# What training asks of data; one from outside may lack some.
_OF_DATA = (
  "name", "reads", "targets", "model_options", "bytes_per_token", "provenance",
  "train_batch", "evaluation_batches",
)  # fmt: skip


def checked_dataset(name: str, made: Any) -> Any:
  """The data; raises UserError for data that lacks what training asks of it."""
  if missing := [a for a in _OF_DATA if not hasattr(made, a)]:
    raise errors.UserError(
      f"data {name!r} gives a {type(made).__name__} without"
      f" {', '.join(missing)}; needed: what normjax.data.dataset.Dataset says."
    )
  return made


def check_model_factory(
  name: str, factory: Any, given: Mapping[str, Any]
) -> None:
  """Raises UserError where one from outside lacks what all models are given."""
  function = factory.__init__ if isinstance(factory, type) else factory
  if not callable(function):
    return  # What calls it says so.
  if missing := _not_taken(function, given):
    raise errors.UserError(
      f"model {name!r} does not take {', '.join(missing)}; a model's factory is"
      f" given {', '.join(given)}."
    )


def checked_model(name: str, made: Any) -> nnx.Module:
  """The model; raises UserError for what cannot be called as ours are."""
  if not isinstance(made, nnx.Module):
    raise errors.UserError(
      f"model {name!r} gives a {type(made).__name__}; needed: a"
      " flax.nnx.Module."
    )
  if missing := _not_taken(type(made).__call__, ("train", "key")):
    raise errors.UserError(
      f"model {name!r}: its __call__ does not take {', '.join(missing)}; it is"
      " called as model(inputs, train=…, key=…)."
    )
  return made


def checked_optimizer(
  name: str, made: optax.GradientTransformation
) -> optax.GradientTransformationExtraArgs:
  """One from outside whose update raises UserError where it does not fit."""
  if not is_outside(name):
    return made
  inner = optax.with_extra_args_support(made)

  def update(
    updates: PyTree, state: PyTree, params: PyTree = None, **extra: Any
  ) -> tuple[PyTree, PyTree]:
    given = inner.update(updates, state, params, **extra)
    if not isinstance(given, tuple) or len(given) != 2:
      raise errors.UserError(
        f"optimizer.name={name!r}: its update gives a {type(given).__name__};"
        " needed: the pair (updates, state)."
      )
    _check_same_shapes(name, updates, given[0])
    return given

  return optax.GradientTransformationExtraArgs(inner.init, update)


def _check_same_shapes(name: str, gradients: PyTree, updates: PyTree) -> None:
  needed, given = (
    {
      jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
      for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    for tree in (gradients, updates)
  )
  for path in needed.keys() | given.keys():
    if needed.get(path) != given.get(path):
      raise errors.UserError(
        f"optimizer.name={name!r}: its update of {path} has the shape"
        f" {given.get(path)}; needed: that of its gradient, {needed.get(path)}."
      )


def _not_taken(function: Any, names: Iterable[str]) -> list[str]:
  """Keywords that a function does not take."""
  parameters = inspect.signature(function).parameters.values()
  if any(p.kind is p.VAR_KEYWORD for p in parameters):
    return []
  return sorted({*names} - {p.name for p in parameters})
