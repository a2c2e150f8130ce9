"""Gradients of the blocks that move, and of no others: `train.block_gradients`.

The program has a branch per choice of blocks, in which all other parameters
are constants. So XLA keeps no gradient of theirs, no input of theirs for the
backward pass, and goes back no further than the first block that moves. A
program of D branches takes D times as long to compile: one compilation per
block, all in one.
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
from normjax.optim import block_descent
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
  if config.model.get("scan_layers", False):
    raise errors.UserError(
      f"{PATH}=True: model.scan_layers=True makes the gradients of all layers"
      " in one loop; allowed: model.scan_layers=False."
    )
  decay = configure.optional(config, "train.layer_decay")
  if decay != configure.OPTIONAL["train.layer_decay"]:
    raise errors.UserError(
      f"{PATH}=True and train.layer_decay={decay!r} do not go together;"
      " allowed: train.layer_decay=1.0."
    )


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
  if not recipe.block_gradients:
    return Taken(
      lambda function, *args: jax.grad(function, (0, 1), has_aux=True)(*args),
      lambda found: found,
    )
  blocks = upcoming(
    recipe.make_optimizer(hyper),
    recipe.optimizer_name,
    trained,
    state.optimizer_state,
  )
  return Taken(
    functools.partial(gradients, blocks),
    lambda compact: expanded(blocks, compact, trained),
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
    UserError: one that does not say so, or more choices than `MAX_BRANCHES`.
  """
  if not isinstance(optimizer, block_descent.BlockWise):
    raise errors.UserError(
      f"{PATH}=True: optimizer {name!r} moves all parameters at a time;"
      " allowed: badam, lisa, bcd."
    )
  found = optimizer.upcoming(params, state)
  count = len(_choices(found))
  if count > MAX_BRANCHES:
    raise errors.UserError(
      f"{PATH}=True: {len(found.active)} of {len(found.blocks.names)} blocks"
      f" are {count} choices, each compiled; allowed: at most {MAX_BRANCHES}."
      " Lower optimizer.num_active."
    )
  return found


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
