"""Bytes that a run holds from step to step, from shapes alone.

Nothing is drawn, compiled or allocated, so a model of any size will do. Beside
the bytes as they are stored stands the estimate that papers on lean training
print: GaLore (arXiv:2403.03507, table 2) and SLTrain (arXiv:2406.02214, table
2) count weights and optimizer states as if both were bfloat16, and leave out
gradients and activations. (Both second-hand.)
"""

import dataclasses
import functools
import operator
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from normjax import build, configure, optim
from normjax.nn import variables as nn_variables
from normjax.nn.linear.base import Untrained
from normjax.optim import block_descent, groups
from normjax.record.costs import PAPER_BYTES
from normjax.train import (
  block_gradients,
  frozen,
  gradient,
  layer_decay,
  param_dtype,
  program,
)
from normjax.train.sharding import layout, told
from normjax.train.state import State
from normjax.train.step import Recipe
from normjax.types import Array, Hyper, PyTree

# PyTorch indexes with int64, which SLTrain's support is counted in.
PAPER_INDEX_BYTES = 8
SHARED = "state of several parameters"


@dataclasses.dataclass(frozen=True)
class Group:
  """Bytes of variables that are alike.

  Attributes:
    part: "trained"; "frozen", what else a matrix or a norm is made of;
      "indices", positions of entries; "other".
    what: role and update of parameters, or what else they are.
    num_entries: numbers that they hold.
    held_bytes: of the variables, as the run's state has them.
    gradient_bytes: of their gradients, in the dtype that a step has them in.
    optimizer_state_bytes: of what the optimizer keeps of them.
    paper_weight_bytes: of them in the papers' estimate.
    paper_state_bytes: of what the optimizer keeps, likewise.
  """

  part: str
  what: str
  num_entries: int = 0
  held_bytes: int = 0
  gradient_bytes: int = 0
  optimizer_state_bytes: int = 0
  paper_weight_bytes: int = 0
  paper_state_bytes: int = 0

  def __add__(self, other: "Group") -> "Group":
    """The sums, under the first one's names."""
    part, what, *ours = dataclasses.astuple(self)
    _, _, *others = dataclasses.astuple(other)
    return Group(part, what, *map(operator.add, ours, others))


@dataclasses.dataclass(frozen=True)
class Memory:
  """Bytes of a run.

  Attributes:
    groups: parameters by role and update; fixed matrices and positions of
      `nn.linear`; statistics, averages, what a procedure remembers.
    num_devices: of the mesh that the config asks for.
    per_device_bytes: of the run's state (all but the gradients), what one of
      these devices holds.
    remarks: what is not counted, and how to read what is.
  """

  groups: tuple[Group, ...]
  num_devices: int
  per_device_bytes: int
  remarks: tuple[str, ...]

  @property
  def total(self) -> Group:
    """The sum of all groups."""
    return sum(self.groups, Group("", "total"))

  def part(self, name: str) -> Group:
    """The sum of the groups of one part."""
    return sum((g for g in self.groups if g.part == name), Group(name, name))


def bytes_of(config: configure.ConfigDict) -> Memory:
  """What a config's run holds between steps, and its gradients.

  Args:
    config: a resolved config, as `train.check` lets it pass.

  Raises:
    UserError: a model, an optimizer or a layout that cannot be built so.
  """
  recipe, initialize = program.recipe_and_initialize(config)
  hyper = jax.eval_shape(lambda: build.hyper(config))
  batch = build.dataset(config).train_batch(0, 0, config.train.batch_size)
  batch = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in batch.items()}
  state = program.state_in_shapes(config, recipe, initialize, hyper, batch)
  placed = layout.create(config, recipe, here=False)
  of_params = _of_params(config, recipe, state, hyper)
  return Memory(
    groups=tuple(_summed([*of_params, *_of_others(recipe, state)])),
    num_devices=placed.mesh.size,
    per_device_bytes=told.bytes_per_device(placed.abstract_state(state)),
    remarks=tuple(_remarks(config, recipe)),
  )


def _of_params(
  config: configure.ConfigDict, recipe: Recipe, state: State, hyper: Hyper
) -> Iterator[Group]:
  """One per parameter, and per leaf of the optimizer's state."""
  trained = frozen.select(state.params, recipe.trained)
  updates = layer_decay.describe_updates(config, trained, recipe.roles)
  gradients = jax.eval_shape(
    functools.partial(_gradients, recipe), state, hyper, trained
  )
  names = {}
  for path, leaf in groups.leaves(state.params):
    role = str(recipe.roles[path])
    names[path] = "frozen", role
    if path in updates:
      names[path] = "trained", f"{role}, {updates[path]}"
    yield Group(
      *names[path],
      num_entries=leaf.size,
      held_bytes=_bytes(leaf),
      gradient_bytes=optim.state_bytes(gradients.get(path, ())),
      paper_weight_bytes=paper_bytes(leaf),
    )
  for path, leaf in groups.leaves(state.optimizer_state):
    yield Group(
      *names.get(groups.owner(path, updates), ("other", SHARED)),
      optimizer_state_bytes=_bytes(leaf),
      paper_state_bytes=paper_bytes(leaf),
    )


def _gradients(
  recipe: Recipe, state: State, hyper: Hyper, trained: PyTree
) -> dict[str, list[Array]]:
  """By path, arrays as large as what is kept of its gradient at a time."""
  if recipe.gradient.estimate is not None:
    return {}
  wide = groups.leaves(param_dtype.widen(trained))
  found = block_gradients.moving(recipe, state, hyper, trained)
  if found is None:
    return {path: [leaf] for path, leaf in wide}
  kept = {}
  for n, (path, leaf) in enumerate(wide):
    if found.blocks.of_leaf[n] < 0:
      kept[path] = [leaf] if found.ends_move else []
    elif found.blocks.is_held(n):
      # Of each kind of leaf a block has one, and so many blocks move.
      kept[path] = [leaf] * len(found.active)
  return kept


def _of_others(recipe: Recipe, state: State) -> Iterator[Group]:
  """One per array that is no parameter and not the optimizer's."""
  model = nn_variables.merge(recipe.graphdef, state.variables())
  fixed = {
    "/".join(map(str, path))
    for path, _ in nnx.to_flat_state(nnx.state(model, Untrained))
  }
  for path, leaf in groups.leaves(state.stats):
    is_index = jnp.issubdtype(leaf.dtype, jnp.integer)
    name = "other", "statistic"
    if path in fixed:
      name = ("indices", "positions") if is_index else ("frozen", "matrix")
    yield _held(*name, leaf, index_bytes=PAPER_INDEX_BYTES)
  others = {
    "statistic of the backward pass": state.grad_stats,
    "average of the weights": state.average,
    "memory of a procedure": state.memory,
    "counters": (state.step, state.diverged_at),
  }
  for what, tree in others.items():
    for leaf in jax.tree.leaves(tree):
      yield _held("other", what, leaf)


def _held(
  part: str, what: str, leaf: Any, index_bytes: int | None = None
) -> Group:
  paper = paper_bytes(leaf, index_bytes)
  return Group(part, what, leaf.size, _bytes(leaf), paper_weight_bytes=paper)


def _bytes(leaf: Any) -> int:
  return leaf.size * leaf.dtype.itemsize


def paper_bytes(leaf: Any, index_bytes: int | None = None) -> int:
  """Bytes of an array where no float takes more than 16 bits.

  Args:
    leaf: an array or its shape.
    index_bytes: of each whole number; None: as it is held.
  """
  if jnp.issubdtype(leaf.dtype, jnp.inexact):
    return leaf.size * min(leaf.dtype.itemsize, PAPER_BYTES)
  return leaf.size * (index_bytes or leaf.dtype.itemsize)


def _summed(found: Iterable[Group]) -> list[Group]:
  """Those of one name together, in the order of the first of each."""
  sums: dict[tuple[str, str], Group] = {}
  for group in found:
    name = group.part, group.what
    sums[name] = sums[name] + group if name in sums else group
  return list(sums.values())


def _remarks(config: configure.ConfigDict, recipe: Recipe) -> Iterator[str]:
  yield (
    "not counted: activations, and temporaries of the compiled step, with which"
    " gradients and updates may share memory"
  )
  if recipe.gradient.estimate is not None:
    yield (
      f"not counted: what {gradient.PATH}="
      f"{configure.optional(config, gradient.PATH)!r} holds of an estimate"
    )
  if recipe.accumulation_steps > 1:
    yield (
      "not counted: the gradient of a micro-batch, beside the sum over"
      f" train.accumulation_steps={recipe.accumulation_steps}"
    )
  optimizer = build.optimizer(config, roles=recipe.roles)
  if isinstance(optimizer, block_descent.BlockWise):
    yield (
      f"{config.optimizer.name} holds the state of the blocks that move; it"
      " stands at the first block, whichever they are, and so do gradients"
      f" with {block_gradients.PATH}=True"
    )
