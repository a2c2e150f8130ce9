"""What components of a user's own must be, said before one is used.

Those of the tables are held to it by their contract tests.
"""

import contextlib
import functools
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import optax
from flax import linen, nnx

from normjax import errors, signatures
from normjax.imports import is_outside, raised_at
from normjax.nn import calling
from normjax.nn import variables as nn_variables
from normjax.types import PyTree

_LOG = logging.getLogger(__name__)
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


def taken(factory: Any, given: Mapping[str, Any]) -> dict[str, Any]:
  """What a model's factory takes of all that it is given."""
  if not callable(factory):
    return dict(given)  # What calls it says so.
  if getattr(factory, "__init__", None) is nnx.Module.__init__:
    return {}  # A class without an `__init__` of its own.
  signature = signatures.of(factory)
  names = given if signature.open_ended else signature.parameters
  return {name: value for name, value in given.items() if name in names}


@functools.lru_cache
def say_norm_is_unused(name: str) -> None:
  """Says once that a model does not read the config's norm."""
  _LOG.warning(
    "note: model %r does not take norm: the block norm changes nothing in it.",
    name,
  )


def checked_model(name: str, made: Any) -> nnx.Module:
  """The model; raises UserError for what is none, or cannot be called."""
  if not isinstance(made, nnx.Module):
    linen_hint = ""
    if isinstance(made, linen.Module):
      linen_hint = (
        " A Linen module becomes one by normjax.models.from_linen(module)."
      )
    raise errors.UserError(
      f"model {name!r} gives a {type(made).__name__}; needed: a"
      f" flax.nnx.Module.{linen_hint}"
    )
  if not callable(made):
    raise errors.UserError(
      f"model {name!r}: {type(made).__name__} has no __call__; it is called as"
      " model(inputs)."
    )
  if missing := calling.needs(made):
    raise errors.UserError(
      f"model {name!r}: its __call__ needs {', '.join(missing)}; it is given"
      f" the inputs and, of {', '.join(calling.GIVEN)}, what it takes."
    )
  nn_variables.adopt_arrays(made)
  return made


@contextlib.contextmanager
def naming_model(name: str, inputs: Any) -> Iterator[None]:
  """Says of which model a fault in a call is, if it is one from outside.

  Raises:
    UserError: in place of whatever the model raises.
  """
  try:
    yield
  except Exception as error:
    if not is_outside(name):
      raise
    message = " ".join(str(error).split())
    if not isinstance(error, errors.UserError):
      message = f"{type(error).__name__}: {message}{raised_at(error)}"
    shape = f"{inputs.dtype}{list(inputs.shape)}"
    raise errors.UserError(
      f"model.name={name!r}, called on inputs {shape}: {message}"
    ) from error


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
