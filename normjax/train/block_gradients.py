"""Gradients of the blocks that move, and of no others: `train.block_gradients`.

The program has a branch per choice of blocks, in which all other parameters
are constants. So XLA keeps no gradient of theirs, no input of theirs for the
backward pass, and goes back no further than the first block that moves. A
program of D branches takes D times as long to compile: one compilation per
block, all in one.

Where the model's layers are a loop (`model.scan_layers`) there are no branches:
`nn.moving_layers` has a loop back that does the same, compiled once.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from normjax import configure, errors, procedures
from normjax.nn import moving_layers
from normjax.optim import block_descent, groups
from normjax.train import gradient, param_dtype
from normjax.types import Array, Hyper, PyTree

PATH = "train.block_gradients"
MAX_BRANCHES = 64


class Compact(NamedTuple):
  """Gradients of what moves.

  Attributes:
    ends: by number of the leaf: of what is in no block, where that moves.
    slots: for each block that moves, in ascending order, by number of the leaf
      that is the first of its kind.
  """

  ends: dict[int, Array]
  slots: tuple[dict[int, Array], ...]


def check(config: configure.ConfigDict) -> None:
  """Refuses what would leave nothing to save.

  Raises:
    UserError: an option beside which all gradients are computed.
  """
  if not configure.optional(config, PATH):
    return
  for procedure in procedures.of(config):
    if procedure.learns:
      raise errors.UserError(
        f"{PATH}=True and {procedure.block} both say what gradients are of;"
        " allowed: one of the two."
      )
  way = configure.optional(config, gradient.PATH)
  if way != configure.OPTIONAL[gradient.PATH]:
    raise errors.UserError(
      f"{PATH}=True and {gradient.PATH}={way!r} both say what gradients are"
      " of; allowed: one of the two."
    )
  held = configure.optional(config, param_dtype.DTYPE)
  if held != param_dtype.WIDE:
    raise errors.UserError(
      f"{PATH}=True and {param_dtype.DTYPE}={held!r} do not go together;"
      f" allowed: {param_dtype.DTYPE}={param_dtype.WIDE!r}."
    )
  decay = configure.optional(config, "train.layer_decay")
  if decay != configure.OPTIONAL["train.layer_decay"]:
    raise errors.UserError(
      f"{PATH}=True and train.layer_decay={decay!r} do not go together;"
      " allowed: train.layer_decay=1.0."
    )


def way(config: configure.ConfigDict) -> str:
  """How gradients are taken: of "all", in "branches" or in a "loop"."""
  if not configure.optional(config, PATH):
    return "all"
  return "loop" if config.model.get("scan_layers", False) else "branches"


class Taken(NamedTuple):
  """How a step takes gradients.

  Attributes:
    grad: as `jax.grad(function, (0, 1), has_aux=True)`, called.
    whole: from the gradient of its first argument, which may be compact, to a
      tree like the parameters.
  """

  grad: Callable[..., Any]
  whole: Callable[[Any], PyTree]


def taken(recipe: Any, state: Any, hyper: Hyper, trained: PyTree) -> Taken:
  """Those of a step's recipe: of all that is trained, or of what moves.

  Raises:
    UserError: what `upcoming` raises.
  """
  blocks = moving(recipe, state, hyper, trained)
  if blocks is None:
    return Taken(
      lambda function, *args: jax.grad(function, (0, 1), has_aux=True)(*args),
      lambda found: found,
    )
  if recipe.block_gradients == "loop":
    layers = layers_of(blocks, trained)
    take = functools.partial(in_loop, blocks, layers)
  else:
    check_branches(blocks)
    take = functools.partial(gradients, blocks)
  return Taken(
    take,
    lambda compact: expanded(blocks, compact, trained),
  )


def moving(
  recipe: Any, state: Any, hyper: Hyper, trained: PyTree
) -> block_descent.Upcoming | None:
  """The blocks whose gradients a step takes; None: those of all that trains.

  Raises:
    UserError: what `upcoming` raises.
  """
  if recipe.block_gradients == "all":
    return None
  return upcoming(
    recipe.make_optimizer(hyper),
    recipe.optimizer_name,
    trained,
    state.optimizer_state,
  )


def upcoming(
  optimizer: optax.GradientTransformation, name: str, params: PyTree, state: Any
) -> block_descent.Upcoming:
  """Which blocks the next update of an optimizer moves.

  Args:
    optimizer: made for this step.
    name: as in the config, for the message.
    params: what is trained.
    state: of the optimizer.

  Raises:
    UserError: one that does not say so.
  """
  if not isinstance(optimizer, block_descent.BlockWise):
    raise errors.UserError(
      f"{PATH}=True: optimizer {name!r} moves all parameters at a time;"
      " allowed: badam, lisa, bcd."
    )
  found = optimizer.upcoming(params, state)
  if any(found.blocks.depths):
    raise errors.UserError(
      f"{PATH}=True and optimizer.stacked do not go together: the gradients of"
      " a stack's layers are made in one loop; allowed: optimizer.stacked=()."
    )
  return found


def check_branches(found: block_descent.Upcoming) -> None:
  """Raises UserError for more choices than `MAX_BRANCHES`."""
  count = len(_choices(found))
  if count > MAX_BRANCHES:
    raise errors.UserError(
      f"{PATH}=True: {len(found.active)} of {len(found.blocks.names)} blocks"
      f" are {count} choices, each compiled; allowed: at most {MAX_BRANCHES}."
      " Lower optimizer.num_active, or set model.scan_layers=True."
    )


def _choices(found: block_descent.Upcoming) -> list[tuple[int, ...]]:
  total = range(len(found.blocks.names))
  return list(itertools.combinations(total, len(found.active)))


def gradients(
  found: block_descent.Upcoming,
  minimized: Callable[..., tuple[Array, Any]],
  trained: PyTree,
  grad_stats: PyTree,
  *rest: Any,
) -> tuple[tuple[Compact, PyTree], Any]:
  """As `jax.grad(minimized, (0, 1), has_aux=True)`, of what moves alone.

  Args:
    found: which blocks do.
    minimized: of (trained, grad_stats, *rest); returns a number and more.
    trained: parameters.
    grad_stats: statistics of the backward pass.
    *rest: other arguments.
  """
  blocks = found.blocks
  flat, structure = jax.tree.flatten(trained)
  ends = [
    n for n, block in enumerate(blocks.of_leaf) if block < 0 and found.ends_move
  ]

  def branch(choice: tuple[int, ...]):
    def run(flat, grad_stats, rest):
      moving = {
        n: leaf
        for n, leaf in enumerate(flat)
        if n in ends or blocks.of_leaf[n] in choice
      }

      def loss(moving, grad_stats):
        leaves = [
          moving.get(n, lax.stop_gradient(leaf)) for n, leaf in enumerate(flat)
        ]
        return minimized(structure.unflatten(leaves), grad_stats, *rest)

      (found_gradients, grad_stats), aux = jax.grad(
        loss, argnums=(0, 1), has_aux=True
      )(moving, grad_stats)
      slots = tuple(
        {
          first: found_gradients[members[block]]
          if block in members
          else jnp.zeros_like(flat[first])
          for first, members in enumerate(blocks.likes)
          if blocks.is_held(first)
        }
        for block in choice
      )
      compact = Compact({n: found_gradients[n] for n in ends}, slots)
      return (compact, grad_stats), aux

    return run

  choices = _choices(found)
  order = jnp.asarray(choices, jnp.int32)
  index = jnp.argmax(jnp.all(order == _sorted(found), axis=1))
  return lax.switch(
    index, [branch(choice) for choice in choices], flat, grad_stats, rest
  )


def layers_of(found: block_descent.Upcoming, trained: PyTree) -> dict[str, int]:
  """The block of each layer of the model's stack, by the layer's path.

  Raises:
    UserError: a layer in two blocks, or a block with two layers.
  """
  named = groups.leaves(trained)
  layers: dict[str, int] = {}
  for (path, _), block in zip(named, found.blocks.of_leaf, strict=True):
    parts = path.split("/")
    if parts[0] != "layers" or block < 0:
      continue
    layer = "/".join(parts[:2])
    if layers.setdefault(layer, block) != block:
      raise errors.UserError(
        f"{PATH}=True and model.scan_layers=True: {layer} is in more than one"
        " of the optimizer's blocks; allowed: a block for each layer, or"
        " model.scan_layers=False."
      )
  if len(set(layers.values())) < len(layers):
    raise errors.UserError(
      f"{PATH}=True and model.scan_layers=True: a block of the optimizer has"
      " more than one layer; allowed: a block for each layer, or"
      " model.scan_layers=False."
    )
  return layers


def in_loop(
  found: block_descent.Upcoming,
  layers: dict[str, int],
  minimized: Callable[..., tuple[Array, Any]],
  trained: PyTree,
  grad_stats: PyTree,
  *rest: Any,
) -> tuple[tuple[Compact, PyTree], Any]:
  """As `gradients`, by a model whose layers are a loop.

  Args:
    found: which blocks move.
    layers: see `layers_of`.
    minimized: see `gradients`.
    trained: likewise.
    grad_stats: likewise.
    *rest: likewise.
  """
  blocks, active = found.blocks, _sorted(found)
  flat, structure = jax.tree.flatten(trained)
  firsts = [n for n in range(len(flat)) if blocks.is_held(n)]
  # Of what moves only places are needed, not values: see `_lent`.
  slots = tuple({n: jnp.zeros_like(flat[n]) for n in firsts} for _ in active)
  ends = {
    n: leaf
    for n, leaf in enumerate(flat)
    if blocks.of_leaf[n] < 0 and found.ends_move
  }
  moving = moving_layers.Moving(
    slots={
      layer: jnp.max(jnp.where(active == block, jnp.arange(len(active)), -1))
      for layer, block in layers.items()
    },
    width=len(active),
    # Statistics of the backward pass are read in all layers, and before them.
    before=found.ends_move
    | bool(jax.tree.leaves(grad_stats))
    | ~jnp.all(jnp.isin(active, jnp.asarray([*layers.values()], jnp.int32))),
  )

  def loss(compact, grad_stats):
    leaves = []
    for n, leaf in enumerate(flat):
      block = blocks.of_leaf[n]
      value = compact.ends.get(n, lax.stop_gradient(leaf))
      if block >= 0:
        first = blocks.likes[n][min(blocks.likes[n])]
        places = [slot[first] for slot in compact.slots]
        value = _lent(leaf, places, active == block)
      leaves.append(value)
    with moving_layers.moving(moving):
      return minimized(structure.unflatten(leaves), grad_stats, *rest)

  return jax.grad(loss, argnums=(0, 1), has_aux=True)(
    Compact(ends, slots), grad_stats
  )


@jax.custom_vjp
def _lent(leaf: Array, places: list[Array], is_on: Array) -> Array:
  """The leaf, whose gradient is that of the place where it is on."""
  del places, is_on
  return leaf


def _lent_forward(leaf, places, is_on):
  del places
  return leaf, is_on


def _lent_backward(is_on, gradient):
  zero = jnp.zeros_like(gradient)
  places = [jnp.where(on, gradient, zero) for on in is_on]
  return None, places, None


_lent.defvjp(_lent_forward, _lent_backward)


def expanded(
  found: block_descent.Upcoming, compact: Compact, trained: PyTree
) -> PyTree:
  """The tree of all gradients, zero where nothing moves.

  What reads it entry by entry is fused with it, and no such tree is in memory.
  """
  flat, structure = jax.tree.flatten(trained)
  active = _sorted(found)
  leaves = []
  for n, (block, leaf) in enumerate(
    zip(found.blocks.of_leaf, flat, strict=True)
  ):
    value = compact.ends.get(n, jnp.zeros_like(leaf))
    if block >= 0:
      members = found.blocks.likes[n]
      first = members[min(members)]
      for slot, gradient in enumerate(compact.slots):
        value = jnp.where(active[slot] == block, gradient[first], value)
    leaves.append(value)
  return structure.unflatten(leaves)


def _sorted(found: block_descent.Upcoming) -> Array:
  return jnp.sort(jnp.stack(found.active))
