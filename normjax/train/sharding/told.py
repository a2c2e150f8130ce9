"""Where a run's parameters lie, and what a device holds of them, in words."""

import math

import jax

from normjax import configure, errors
from normjax.train.sharding import layout as layout_lib
from normjax.train.sharding import layout_rules
from normjax.train.state import State
from normjax.train.step import Recipe
from normjax.types import PyTree

_MOST_NAMED = 3


def describe(
  config: configure.ConfigDict, recipe: Recipe, state: State
) -> tuple[dict[str, str], list[str]]:
  """Where the parameters of a run lie, and what its state comes to, in words.

  Args:
    config: of the run.
    recipe: of its program.
    state: shapes and dtypes.

  Returns:
    By path of a parameter where it lies, {} where every device holds all, and
    lines on the whole.

  Raises:
    UserError: an axis of the mesh that does not come out even.
  """
  layout = layout_lib.create(config, recipe, here=False)
  rules = layout.rules.variable
  placed = layout.abstract_state(state)
  held = f"state {bytes_per_device(placed) / 2**20:.2f} MiB"
  if not isinstance(rules, layout_rules.Splitting):
    return {}, [f"layout: all whole; {held} on every device"]
  where, whole = {}, []
  for path, leaf in jax.tree.leaves_with_path(placed.params):
    name = layout_lib.name_of(path)
    where[name] = rules.describe(name, layout.roles[name], leaf.shape)
  for path, leaf in jax.tree.leaves_with_path(placed.optimizer_state):
    if leaf.size >= max(rules.min_size, 2) and _is_whole(leaf):
      whole.append(f"{layout_lib.name_of(path)} {leaf.shape}")
  mesh = " x ".join(f"{n} {size}" for n, size in layout.mesh.shape.items())
  lines = [f"layout: {mesh}; {held} per device"]
  if whole:
    lines.append(
      "whole on every device, having none of the axes that split their"
      f" parameters, or not evenly: {errors.few(whole, _MOST_NAMED)}"
    )
  return where, lines


def _is_whole(leaf: jax.ShapeDtypeStruct) -> bool:
  return not any(leaf.sharding.spec)


def bytes_per_device(tree: PyTree) -> int:
  """What one device holds of a tree of arrays, or of shapes with shardings."""
  return sum(
    math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(tree)
  )
