"""BAdam: Luo, Yu, Li 2024, arXiv:2404.02827."""

from collections.abc import Mapping, Sequence
from typing import Any

import optax
from jax.typing import DTypeLike

from normjax import validate
from normjax.optim import block_descent, compose
from normjax.optim import blocks as blocks_lib
from normjax.optim.adamw import scale_by_adam
from normjax.types import Array, PyTree

__all__ = ["badam"]


@validate.options
def badam(
  learning_rate: optax.ScalarOrSchedule,
  b1: float | Array = 0.9,
  b2: float | Array = 0.999,
  eps: float | Array = 1e-8,
  *,
  switch_every: int | Array = 100,
  order: str = "random",
  blocks: Sequence[str] = (),
  stacked: Sequence[str] = (),
  others: str = "never",
  seed: int | Array = 0,
  mu_dtype: DTypeLike | None = None,
  nu_dtype: DTypeLike | None = None,
  weight_decay: float | Array = 0.0,
  mask: Any = "default",
) -> optax.GradientTransformationExtraArgs:
  """AdamW on one block at a time, its state dropped at every switch.

      every K steps:  b = the next block, m = v = 0, t = 0
      m = b1 m + (1 - b1) g_b            v = b2 v + (1 - b2) g_b^2
      w_b -= lr (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + wd w_b)

  arXiv:2404.02827, algorithm 1, after Ledzy/BAdam (Apache-2.0). A block is a
  layer; embedding, head and final norm are never trained, as in the official
  code. There the first block has K - 1 steps, here K. A schedule of the
  learning rate runs over all steps. The paper's copies in float32 of weights
  in 16 bits are not made: keep the weights in float32.

  State: 8 bytes per entry of one layer. Gradients of all layers are still
  computed; see `block_wise`.

  Args:
    learning_rate: number, traced scalar or schedule.
    b1: decay of the first moment, in [0, 1).
    b2: decay of the second moment, in [0, 1).
    eps: added outside the square root, >= 0.
    switch_every: K, steps per block; the official code's default is 50, its
      page has 100. May be traced.
    order: "random", "ascending" or "descending" (the official code's default);
      see `block_wise` for the others.
    blocks: see `block_wise`.
    stacked: see `block_wise`.
    others: what is in no layer: "never" trained, or one more "block".
    seed: of random orders, >= 0; may be traced.
    mu_dtype: of the stored first moment; None takes the parameter's.
    nu_dtype: of the stored second moment; None takes float32 at least.
    weight_decay: rate of the decay, >= 0; of the block that moves.
    mask: which leaves decay: "default" (matrices and embeddings), None (all),
      a tree of booleans, or a function from params to one.

  Raises:
    UserError: a concrete number out of range, a mask of another structure, or
      blocks that miss a leaf.
    TypeError: an option or a leaf of another type.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from normjax import optim
    >>> def objective(params):
    ...   return sum(jnp.sum(w**2) for w in jax.tree.leaves(params))
    >>> tx = optim.badam(0.1, switch_every=1, order="ascending")
    >>> params = {"layers": [{"kernel": jnp.ones(1)}, {"kernel": jnp.ones(1)}]}
    >>> state = tx.init(params)
    >>> for _ in range(3):
    ...   gradients = jax.grad(objective)(params)
    ...   updates, state = tx.update(gradients, state, params)
    ...   params = optax.apply_updates(params, updates)
    ...   print([f"{w[0]:.1f}" for w in jax.tree.leaves(params)])
    ['0.9', '1.0']
    ['0.9', '0.9']
    ['0.8', '0.9']
  """
  validate.learning_rate("badam", learning_rate)
  validate.scalars("badam", weight_decay=weight_decay)
  adam = scale_by_adam(b1, b2, eps, mu_dtype=mu_dtype, nu_dtype=nu_dtype)
  direction = block_descent.core(
    "badam",
    lambda flags: optax.chain(
      adam, compose.add_decay("badam", weight_decay, flags)
    ),
    blocks=blocks,
    stacked=stacked,
    others=others,
    order=order,
    switch_every=switch_every,
    num_active=1,
    seed=seed,
    mask=mask,
  )
  return block_descent.finish("badam", direction, learning_rate, mask)


def routes(
  params: PyTree,
  blocks: Sequence[str] = (),
  stacked: Sequence[str] = (),
  others: str = "never",
  **options: Any,
) -> Mapping[str, str]:
  """Path of each leaf to the block that it is in."""
  del options
  return blocks_lib.routes("badam", params, blocks, others, stacked)
