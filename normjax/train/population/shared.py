"""What all members of a population have in common, found by tracing.

Under `jax.vmap` a conditional stays one as long as what decides it is not
batched; else both branches are computed, at every step. Conda, GaLore or SOAP
would factorise their matrices all the time. So the counters that decide are
held once for all members. Which leaves those are is not asked of their names:

    a leaf of the state is shared if it begins as a constant, and a step makes
    it of constants and shared leaves alone

which is what `vmap` itself finds, here watched at its outputs. What is not
found to be so is batched, which is right for any leaf. A scalar of the run
that decides a conditional, such as `update_proj_gap`, is shared too: members
that differ in it are of different populations.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax

from normjax.train.state import State
from normjax.types import Hyper, PyTree

_SIZE = 2  # Of the population that is traced; any would do.


class Shared(NamedTuple):
  """What is not batched.

  Attributes:
    leaves: places among the leaves of the state.
    scalars: names of the run's scalars.
  """

  leaves: frozenset[int]
  scalars: frozenset[str]


def find(
  start: Callable[[dict[str, PyTree], Hyper], State],
  step: Callable[[State, PyTree, Hyper], Any],
  state: State,
  batch: PyTree,
  hyper: Hyper,
) -> Shared:
  """What the members of a program share; nothing is computed.

  Args:
    start: (variables, scalars) -> the state before step 0.
    step: (state, batch, scalars) -> (state, metrics).
    state: abstract, like the others.
    batch: see `state`.
    hyper: see `state`.
  """
  start, step = jax.jit(start), jax.jit(step)  # Each is traced once.
  leaves = _leaves(start, step, state, batch, hyper, frozenset())
  scalars = _deciding(step, state, batch, hyper, leaves)
  if scalars:  # What they make is shared, too.
    leaves = _leaves(start, step, state, batch, hyper, scalars)
  return Shared(leaves, scalars)


def _leaves(
  start: Callable[[dict[str, PyTree], Hyper], State],
  step: Callable[[State, PyTree, Hyper], Any],
  state: State,
  batch: PyTree,
  hyper: Hyper,
  scalars: frozenset[str],
) -> frozenset[int]:
  """Places of the shared leaves of the state, where these scalars are."""
  leaves, structure = jax.tree.flatten(state)
  over = _axes_of(hyper, scalars)
  begun = _batched(start, (0, over), (state.variables(), hyper))
  shared = frozenset(n for n, varies in enumerate(begun) if not varies)
  while True:
    axes = structure.unflatten(state_axes(len(leaves), shared))
    stepped = _batched(
      lambda *given: step(*given)[0], (axes, 0, over), (state, batch, hyper)
    )
    left = frozenset(n for n in shared if not stepped[n])
    if left == shared:
      return shared
    shared = left


def state_axes(num_leaves: int, shared: frozenset[int]) -> list[int | None]:
  """The axis of the members in each leaf; None where there is none."""
  return [None if n in shared else 0 for n in range(num_leaves)]


def num_conditionals(function: Callable[..., Any], *arguments: Any) -> int:
  """Of a function's program: `cond` and `switch`, inner ones too."""
  traced = jax.make_jaxpr(function)(*arguments)
  return sum(eqn.primitive.name == "cond" for eqn in _equations(traced.jaxpr))


def _deciding(
  step: Callable[..., Any],
  state: State,
  batch: PyTree,
  hyper: Hyper,
  shared: frozenset[int],
) -> frozenset[str]:
  """The scalars without which there are fewer conditionals, if batched.

  Of those that are left as it is: one that looks at a gradient, as to skip it
  where it is not finite, is none any more, whatever scalars made the gradient.
  """
  if not num_conditionals(step, state, batch, hyper):
    return frozenset()
  leaves, structure = jax.tree.flatten(state)
  axes = structure.unflatten(state_axes(len(leaves), shared))
  stacked = _stacked(state, axes), _stacked(batch, 0)

  def count(*batched: str) -> int:
    over = _axes_of(hyper, frozenset(hyper) - {*batched})
    mapped = jax.vmap(step, in_axes=(axes, 0, over), axis_size=_SIZE)
    return num_conditionals(mapped, *stacked, _stacked(hyper, over))

  all_there = count()
  if count(*hyper) == all_there:
    return frozenset()
  return frozenset(name for name in hyper if count(name) < all_there)


def _axes_of(hyper: Hyper, shared: frozenset[str]) -> dict[str, int | None]:
  return {name: None if name in shared else 0 for name in hyper}


def _stacked(tree: PyTree, axes: PyTree) -> PyTree:
  """Shapes with an axis for the members in front, where there is one."""

  def stack(axis: int | None, leaf: Any) -> Any:
    shape = leaf.shape if axis is None else (_SIZE, *leaf.shape)
    return jax.ShapeDtypeStruct(shape, leaf.dtype)

  def over(axis: Any, subtree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: stack(axis, leaf), subtree)

  return jax.tree.map(over, axes, tree, is_leaf=lambda axis: axis is None)


def _batched(
  function: Callable[..., PyTree], axes: tuple[Any, ...], arguments: Any
) -> list[bool]:
  """Which leaves of what a function returns vary over the members."""
  found: list[bool] = []

  @jax.custom_batching.custom_vmap
  def watch(leaves):
    return leaves

  @watch.def_vmap
  def _(axis_size, in_batched, leaves):
    del axis_size
    found[:] = in_batched[0]
    return leaves, in_batched[0]

  def watched(*given):
    return watch(jax.tree.leaves(function(*given)))

  stacked = tuple(map(_stacked, arguments, axes))
  jax.eval_shape(jax.vmap(watched, in_axes=axes, axis_size=_SIZE), *stacked)
  return found


def _equations(jaxpr: Any) -> Iterator[Any]:
  """The equations of a program, those of inner programs too."""
  for equation in jaxpr.eqns:
    yield equation
    for value in jax.tree.leaves(
      list(equation.params.values()),
      is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr"),
    ):
      inner = getattr(value, "jaxpr", value)
      if hasattr(inner, "eqns"):
        yield from _equations(inner)
