"""Block coordinate descent: a state of one block, and who moves when."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.typing import ArrayLike

from normjax import errors
from normjax.optim import compose, groups, masks, meshes
from normjax.optim.blocks import (
  Blocks,
  blocks_of,
  check,
  check_count,
  chosen,
  layer_of,
  put_layer,
  squared_norms,
)
from normjax.types import Array, PyTree


class BlockWiseState(NamedTuple):
  """State of `block_wise`."""

  # Updates so far, shape=(), int32.
  count: ArrayLike  # pyright: ignore[reportIncompatibleMethodOverride]
  active: tuple[Array, ...]  # Numbers of the blocks that moved last, int32.
  # The inner state of each, on a tree that has the first block of each kind.
  inner: tuple[PyTree, ...]


class Upcoming(NamedTuple):
  """What the next update of an optimizer moves.

  Attributes:
    blocks: of the parameters.
    active: numbers of those that move, int32.
    ends_move: whether what is in no block does.
  """

  blocks: Blocks
  active: tuple[Array, ...]
  ends_move: bool = False


class BlockWise(optax.GradientTransformationExtraArgs):
  """A transform that says beforehand which blocks its next update moves.

  Attributes:
    upcoming: (params, state) -> `Upcoming`; it raises UserError where only all
      gradients would tell.
  """

  upcoming: Callable[[PyTree, Any], Upcoming]

  def __new__(
    cls,
    transform: optax.GradientTransformation,
    upcoming: Callable[[PyTree, Any], Upcoming],
  ):
    """The transform with `upcoming`."""
    extended = optax.with_extra_args_support(transform)
    self = super().__new__(cls, extended.init, extended.update)
    self.upcoming = upcoming
    return self


def finish(
  method: str,
  direction: BlockWise,
  learning_rate: optax.ScalarOrSchedule,
  mask: Any,
) -> BlockWise:
  """The outermost layer of an alias: the rate, checks, and what comes next."""
  transform = compose.finish(
    method,
    optax.chain(direction, optax.scale_by_learning_rate(learning_rate)),
    mask,
  )
  return BlockWise(
    transform, lambda params, state: direction.upcoming(params, state[0])
  )


def core(
  method: str,
  make: Callable[[PyTree], optax.GradientTransformation],
  *,
  blocks: Sequence[str],
  others: str,
  order: str,
  switch_every: int | Array,
  num_active: int | None,
  seed: int | Array,
  stacked: Sequence[str] = (),
  mask: Any = None,
) -> BlockWise:
  """See `block_wise`; `make` gives the inner transform of a mask's tree."""
  check(
    method,
    blocks=blocks,
    others=others,
    order=order,
    switch_every=switch_every,
    num_active=num_active,
    seed=seed,
    stacked=stacked,
  )
  width = num_active or 1

  def parts(tree):
    flags = masks.resolve_mask(mask, tree)
    found = blocks_of(method, tree, blocks, others, flags, stacked=stacked)
    inner = make(jax.tree.structure(tree).unflatten(flags))
    return found, optax.with_extra_args_support(inner)

  def held(found, tree, pick):
    """The tree of one block; what it has no place for is hidden."""
    flat, structure = jax.tree.flatten(tree)
    return structure.unflatten(
      pick(n, flat) if found.is_held(n) else optax.MaskedNode()
      for n in range(len(flat))
    )

  def of_block(found, tree, block):
    """The block's leaves in the places of the first of its kind."""

    def pick(n, flat):
      if found.depths[n]:
        return layer_of(found, n, flat[n], block)
      members = found.likes[n]
      if len(members) < 2:
        return flat[n]
      numbers = jnp.asarray(sorted(members), jnp.int32)
      index = jnp.argmax(numbers == block)
      return lax.switch(
        index,
        [lambda *leaves, m=m: leaves[m] for m in range(len(members))],
        *(flat[members[number]] for number in sorted(members)),
      )

    return held(found, tree, pick)

  def gradients_of(found, updates, block):
    """Of the block's leaves; zero in the places that it does not have."""

    def only_its_own(n, leaf):
      if len(found.likes[n]) == len(found.names):
        return leaf
      is_its = jnp.any(jnp.asarray([*found.likes[n]], jnp.int32) == block)
      return jnp.where(is_its, leaf, jnp.zeros_like(leaf))

    own = of_block(found, updates, block)
    structure = jax.tree.structure(updates)
    return structure.unflatten(
      only_its_own(n, leaf) if found.is_held(n) else leaf
      for n, leaf in enumerate(structure.flatten_up_to(own))
    )

  def init(params):
    groups.check_leaves(method, params)
    found, inner = parts(params)
    check_count(method, found, width)

    def first(n, flat):
      return meshes.whole_first(flat[n])[0] if found.depths[n] else flat[n]

    one = held(found, params, first)
    state = BlockWiseState(
      jnp.zeros((), jnp.int32),
      (jnp.zeros((), jnp.int32),) * width,
      tuple(inner.init(one) for _ in range(width)),
    )
    return meshes.place(state, params)

  def update(updates, state, params=None, **extra_args):
    flat, structure = jax.tree.flatten(updates)
    if not flat:
      return updates, state
    found, inner = parts(updates if params is None else params)
    switches = state.count % switch_every == 0

    def choose():
      return chosen(
        found,
        order=order,
        turn=jnp.asarray(state.count // switch_every, jnp.int32),
        num_active=width,
        seed=seed,
        scores=lambda: squared_norms(found, flat),
      )

    active = lax.cond(switches, choose, lambda: tuple(state.active))
    moved = [meshes.zeros(leaf) for leaf in flat]
    states = []
    for block, old in zip(active, state.inner, strict=True):
      weights = None if params is None else of_block(found, params, block)
      gradients = gradients_of(found, updates, block)
      fresh = inner.init(gradients if weights is None else weights)
      old = jax.tree.map(
        lambda new, kept: jnp.where(switches, new, kept).astype(kept.dtype),
        fresh,
        old,
      )
      step, new = inner.update(gradients, old, weights, **extra_args)
      states.append(new)
      steps = structure.flatten_up_to(step)
      for n, number in enumerate(found.of_leaf):
        if found.depths[n]:
          moved[n] = put_layer(found, n, moved[n], block, steps[n])
        elif number >= 0:
          first = found.likes[n][min(found.likes[n])]
          moved[n] = jnp.where(block == number, steps[first], moved[n])
    count = optax.safe_increment(state.count)
    return structure.unflatten(moved), BlockWiseState(
      count, active, tuple(states)
    )

  def upcoming(params, state):
    if order == "greedy":
      raise errors.UserError(
        f"{method}: order='greedy' chooses by all gradients; allowed, where"
        " not all are computed: random, independent, ascending, descending."
      )
    found, _ = parts(params)
    turn = jnp.asarray(state.count // switch_every, jnp.int32)
    return Upcoming(
      found,
      chosen(found, order=order, turn=turn, num_active=width, seed=seed),
    )

  transform = optax.GradientTransformationExtraArgs(init, update)
  return BlockWise(transform, upcoming)
