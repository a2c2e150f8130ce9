"""How a checkpoint becomes a model's variables, once all is known to fit."""

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from normjax import errors
from normjax.convert import likeness
from normjax.convert.architecture import Architecture
from normjax.convert.entries import Entry, Fixed, Same, cast
from normjax.convert.weights import Checkpoint, Tensor
from normjax.nn import start

_MOST_NAMED = 3


def plan(
  checkpoint: Checkpoint,
  family: Architecture,
  module: nnx.Module,
  shapes: start.Variables,
  without: Sequence[str] = (),
) -> Callable[..., start.Variables]:
  """How the model's variables are read, once all is known to fit.

  Args:
    checkpoint: opened.
    family: of the model.
    module: in shapes.
    shapes: of its variables.
    without: modules that are not read.

  Returns:
    (dtype of the parameters, or None for that of the model; what places an
    array that is read, or None for NumPy's; drawn, what is not read) ->
    variables.

  Raises:
    UserError: a tensor that is missing, left over, or of another shape; a
      variable that the family has no tensor for.
  """
  declared = family.entries(module)
  found = _renamed(checkpoint, family, {entry.theirs for entry in declared})
  entries = [
    entry
    for entry in declared
    if isinstance(entry, Entry)
    and not all(likeness.is_within(path, without) for path in entry.ours)
  ]
  own = {
    path: leaf
    for tree in shapes.values()
    for path, leaf in flat(tree).items()
    if not likeness.is_within(path, without)
  }
  check_covered(family, entries, own)
  _check_names(checkpoint, family, declared, entries, found)
  wanted = {path: tuple(leaf.shape) for path, leaf in own.items()}
  _check_sizes(checkpoint, wanted)
  for entry in entries:
    tensor = found[entry.theirs]
    _check_shape(
      checkpoint, entry.theirs, tensor, entry.shape_of_theirs(wanted)
    )
    _check_floats(entry.theirs, tensor)
  twins = [entry for entry in declared if isinstance(entry, Same)]

  def read(
    dtype: str | None = None,
    place: Callable[..., Any] | None = None,
    drawn: start.Variables | None = None,
  ) -> start.Variables:
    for twin in twins:
      if twin.theirs in found:
        _check_equal(checkpoint, twin, found)
    trained = {*flat(shapes["params"])}
    values = {
      path: leaf
      for tree in (drawn or {}).values()
      for path, leaf in flat(tree).items()
    }
    for entry in entries:
      tensor = found[entry.theirs]
      for path, value in entry.to_ours(tensor.read()).items():
        chosen = dtype if dtype and path in trained else own[path].dtype
        said = f"{tensor.file}: tensor {entry.theirs!r}"
        value = cast(value, jnp.dtype(chosen), said)
        # One by one, so that no two copies of all are there at once.
        values[path] = place(value) if place else value
    return {
      collection: _tree(tree, values) for collection, tree in shapes.items()
    }

  return read


def check_covered(
  family: Architecture, entries: list[Entry], own: Mapping[str, Any]
) -> None:
  """Raises UserError unless the family's tensors are the model's variables."""
  covered = {path for entry in entries for path in entry.ours}
  if lacks := [path for path in covered if path not in own]:
    raise errors.UserError(
      f"architecture {family.name!r} has what the model lacks:"
      f" {errors.few(sorted(lacks), _MOST_NAMED)}."
    )
  if extra := [path for path in own if path not in covered]:
    raise errors.UserError(
      f"architecture {family.name!r} has no tensor for what the model has:"
      f" {errors.few(extra, _MOST_NAMED)}."
    )


def _renamed(
  checkpoint: Checkpoint, family: Architecture, known: Collection[str]
) -> dict[str, Tensor]:
  """The tensors by the names of the whole model."""
  tensors = dict(checkpoint.tensors)
  prefix = family.prefix
  if not prefix or any(name.startswith(prefix) for name in tensors):
    return tensors
  found = {
    name if name.startswith("lm_head.") else prefix + name: tensor
    for name, tensor in tensors.items()
  }
  # Another model's names are told as they are.
  return found if any(name in found for name in known) else tensors


def _check_names(
  checkpoint: Checkpoint,
  family: Architecture,
  declared: list[Entry | Fixed | Same],
  entries: list[Entry],
  found: Mapping[str, Tensor],
) -> None:
  wanted = [entry.theirs for entry in entries]
  known = {entry.theirs for entry in declared}
  ignored = [re.compile(pattern) for pattern in family.ignored]
  missing = [name for name in wanted if name not in found]
  surplus = [
    name
    for name in found
    if name not in known
    and not any(p.fullmatch(name.removeprefix(family.prefix)) for p in ignored)
  ]
  problems = []
  if missing:
    problems.append(f"lacks {errors.few(missing, _MOST_NAMED)}")
  if surplus:
    problems.append(
      "holds what that model has no place for:"
      f" {errors.few(surplus, _MOST_NAMED)}"
    )
  if problems:
    raise errors.DataError(
      f"{checkpoint.where}, read as {family.name!r}, {'; it '.join(problems)}."
    )


def _check_shape(
  checkpoint: Checkpoint, name: str, tensor: Tensor, wanted: tuple[int, ...]
) -> None:
  if tensor.shape != wanted:
    raise errors.DataError(
      f"{tensor.file}: tensor {name!r} is {tensor.shape}; by"
      f" {checkpoint.said_by} it is {wanted}."
    )


def _check_sizes(
  checkpoint: Checkpoint, wanted: Mapping[str, tuple[int, ...]]
) -> None:
  """Raises DataError for a variable that is larger than all of the files."""
  held = sum(math.prod(t.shape) for t in checkpoint.tensors.values())
  for path, shape in wanted.items():
    if math.prod(shape) > held:
      raise errors.DataError(
        f"by {checkpoint.said_by}, {path} is {shape};"
        f" {checkpoint.where} holds {held} numbers in all."
      )


def _check_floats(name: str, tensor: Tensor) -> None:
  """Raises DataError for whole numbers, which stand for others."""
  if not jnp.issubdtype(jnp.dtype(tensor.dtype), jnp.floating):
    raise errors.DataError(
      f"{tensor.file}: tensor {name!r} is of {tensor.dtype}; needed: floats."
      " Quantized weights are read as GGUF only."
    )


def _check_equal(
  checkpoint: Checkpoint, twin: Same, found: Mapping[str, Tensor]
) -> None:
  first, second = found[twin.theirs], found[twin.twin]
  if first.shape != second.shape or not np.array_equal(
    first.read(), second.read()
  ):
    raise errors.DataError(
      f"{checkpoint.where}: {twin.theirs!r} is not {twin.twin!r}, and by"
      f" {checkpoint.said_by} they are one (tie_word_embeddings)."
    )


def flat(tree: Any) -> dict[str, Any]:
  """Leaves by path."""
  return {
    "/".join(key.key for key in path): leaf
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
  }


def _tree(shapes: Any, values: Mapping[str, Any]) -> Any:
  """The values in the shape of a tree."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: values["/".join(key.key for key in path)], shapes
  )
