"""Block coordinate descent: random or greedy blocks, a gradient step each."""

from collections.abc import Mapping, Sequence
from typing import Any

import optax

from normjax import validate
from normjax.optim import block_descent, compose
from normjax.optim import blocks as blocks_lib
from normjax.types import Array, PyTree

__all__ = ["bcd"]


@validate.options
def bcd(
  learning_rate: optax.ScalarOrSchedule,
  *,
  order: str = "independent",
  switch_every: int | Array = 1,
  num_active: int | None = None,
  blocks: Sequence[str] = (),
  stacked: Sequence[str] = (),
  others: str = "block",
  seed: int | Array = 0,
  weight_decay: float | Array = 0.0,
  mask: Any = "default",
) -> optax.GradientTransformationExtraArgs:
  """Gradient descent on one block at a time.

      w_b -= lr (g_b + wd w_b),  b drawn, or argmax_b ||g_b||_2 if greedy

  Nesterov 2012, Efficiency of coordinate descent methods on huge-scale
  problems, doi:10.1137/100802001, with a drawn block; the greedy choice is the
  Gauss-Southwell rule of Nutini et al. 2015, arXiv:1506.00552, by blocks. Both
  from memory, not read for this. There is no state but the step and the block.

  Args:
    learning_rate: number, traced scalar or schedule.
    order: "independent": drawn anew each time; "greedy"; "random": each once,
      shuffled anew; "ascending" or "descending".
    switch_every: steps per block; may be traced.
    num_active: blocks that move at a time; None stands for 1.
    blocks: see `block_wise`.
    stacked: see `block_wise`.
    others: what is in no layer: one more "block", or "never" trained.
    seed: of random orders, >= 0; may be traced.
    weight_decay: rate of the decay, >= 0; of what moves.
    mask: which leaves decay: "default" (matrices and embeddings), None (all),
      a tree of booleans, or a function from params to one.

  Raises:
    UserError: a concrete number out of range, a mask of another structure, or
      blocks that miss a leaf.
    TypeError: an option or a leaf of another type.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from normjax import optim
    >>> objective = lambda params: jnp.sum(params["a"] ** 2 + params["b"] ** 2)
    >>> tx = optim.bcd(0.25, order="greedy")
    >>> params = {"a": jnp.array([1.0]), "b": jnp.array([3.0])}
    >>> state = tx.init(params)
    >>> for _ in range(3):
    ...   gradients = jax.grad(objective)(params)
    ...   updates, state = tx.update(gradients, state, params)
    ...   params = optax.apply_updates(params, updates)
    ...   print({name: f"{w[0]:.2f}" for name, w in params.items()})
    {'a': '1.00', 'b': '1.50'}
    {'a': '1.00', 'b': '0.75'}
    {'a': '0.50', 'b': '0.75'}
  """
  validate.learning_rate("bcd", learning_rate)
  validate.scalars("bcd", weight_decay=weight_decay)
  direction = block_descent.core(
    "bcd",
    lambda flags: compose.add_decay("bcd", weight_decay, flags),
    blocks=blocks,
    stacked=stacked,
    others=others,
    order=order,
    switch_every=switch_every,
    num_active=num_active,
    seed=seed,
    mask=mask,
  )
  return block_descent.finish("bcd", direction, learning_rate, mask)


def routes(
  params: PyTree,
  blocks: Sequence[str] = (),
  stacked: Sequence[str] = (),
  others: str = "block",
  **options: Any,
) -> Mapping[str, str]:
  """Path of each leaf to the block that it is in."""
  del options
  return blocks_lib.routes("bcd", params, blocks, others, stacked)
