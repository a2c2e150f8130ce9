"""A step on gradients that are made when their turn comes.

A compiler may make all leaves of an estimate first and the step of each after
that: what it keeps is then a second model. Here one leaf is made when all that
hangs on those before it is done, and of these only what is read later is left.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import optax
from jax import lax
from jax.extend import core

from normjax.optim import in_place
from normjax.types import Array, PyTree


@dataclasses.dataclass(frozen=True)
class Deferred:
  """A leaf that is not made yet.

  Attributes:
    shape: of it.
    dtype: of it.
    source: arrays that it is made from.
    make: source -> the leaf.
  """

  shape: tuple[int, ...]
  dtype: Any
  source: PyTree
  make: Callable[[PyTree], Array]


def has_deferred(tree: PyTree) -> bool:
  """Whether some leaf is not made yet."""
  return any(isinstance(leaf, Deferred) for leaf in jax.tree.leaves(tree))


def call[T](function: Callable[[PyTree], T], tree: PyTree) -> T:
  """The function of a tree, some leaves of which are `Deferred`.

  Optimizers that scale leaves by a number that depends on all of them need all
  at once, and get them.

  Args:
    function: of the tree with arrays; returns arrays.
    tree: its argument.
  """
  if not has_deferred(tree):
    return function(tree)
  leaves, structure = jax.tree.flatten(tree)
  traced, shapes = jax.make_jaxpr(
    lambda leaves: function(structure.unflatten(leaves)), return_shape=True
  )([jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves])
  found = _in_turn(traced, leaves)
  return jax.tree.structure(shapes).unflatten(found)


def settled(
  tx: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
  """The optimizer, its updates made once, whoever reads them.

  Where the update is part of two computations, of the new parameters and of its
  norm, both read the old ones, and XLA keeps a copy of these. A step in place
  has no updates.
  """
  tx = optax.with_extra_args_support(tx)
  if isinstance(tx, in_place.InPlace):
    return tx

  def update(gradients, state, params=None, **extra_args):
    updates, state = tx.update(gradients, state, params, **extra_args)
    return jax.tree.map(lax.optimization_barrier, updates), state

  return optax.GradientTransformationExtraArgs(tx.init, update)


def _in_turn(jaxpr: core.Jaxpr, leaves: list[Any]) -> list[Any]:
  """The jaxpr's values; at turn n all that needs leaves 0 to n, and no more."""
  turn_of = dict.fromkeys(jaxpr.constvars, -1)
  turn_of |= {variable: n for n, variable in enumerate(jaxpr.invars)}

  def turn(atom: Any) -> int:
    return -1 if isinstance(atom, core.Literal) else turn_of[atom]

  turns: list[list[Any]] = [[] for _ in range(len(leaves) + 1)]
  last_read: dict[Any, int] = {}
  for equation in jaxpr.eqns:
    at = max(map(turn, equation.invars), default=-1)
    turn_of |= dict.fromkeys(equation.outvars, at)
    turns[at + 1].append(equation)
    for atom in equation.invars:
      if not isinstance(atom, core.Literal):
        last_read[atom] = max(at, last_read.get(atom, -1))
  for atom in jaxpr.outvars:
    if not isinstance(atom, core.Literal):
      last_read[atom] = len(leaves)

  known = dict(zip(jaxpr.constvars, jaxpr.consts, strict=True))

  def read(atom: Any) -> Any:
    return atom.val if isinstance(atom, core.Literal) else known[atom]

  for n, equations in enumerate(turns):
    at = n - 1
    if at >= 0:
      known[jaxpr.invars[at]] = _made(leaves[at], known, turn_of, last_read, at)
    for equation in equations:
      given = [read(atom) for atom in equation.invars]
      options = equation.primitive.get_bind_params(equation.params)
      with equation.ctx.manager:
        found = equation.primitive.bind(*given, **options)
      if not equation.primitive.multiple_results:
        found = [found]
      known.update(zip(equation.outvars, found, strict=True))
  return [read(atom) for atom in jaxpr.outvars]


def _made(
  leaf: Any,
  known: dict[Any, Any],
  turn_of: dict[Any, int],
  last_read: dict[Any, int],
  at: int,
) -> Array:
  """The leaf of this turn, after all that the last one leaves."""
  if not isinstance(leaf, Deferred):
    return leaf
  left = [
    variable
    for variable in known
    if turn_of[variable] == at - 1 >= 0 and last_read.get(variable, -1) >= at
  ]
  source, values = lax.optimization_barrier(
    (leaf.source, [known[variable] for variable in left])
  )
  known.update(zip(left, values, strict=True))
  return leaf.make(source)
