"""Any optimizer on a few blocks of the parameters at a time."""

from collections.abc import Sequence

import optax

from normjax import validate
from normjax.optim import block_descent
from normjax.types import Array

__all__ = ["block_wise"]


@validate.options
def block_wise(
  inner: optax.GradientTransformation,
  *,
  blocks: Sequence[str] = (),
  stacked: Sequence[str] = (),
  others: str = "never",
  order: str = "random",
  switch_every: int | Array = 100,
  num_active: int | None = None,
  seed: int | Array = 0,
) -> optax.GradientTransformationExtraArgs:
  """Moves a few blocks by `inner`, and after some steps others.

      every switch_every steps:  choose blocks, inner's state of them = fresh
      u_b, s_b = inner.update(g_b, s_b, w_b) of the chosen;  u = 0 elsewhere

  The state is that of `num_active` blocks: with D like layers 1/D of the
  inner one. Blocks are of a kind where names, shapes and dtypes agree; the
  state has a place for one block of each kind. Gradients of all blocks come in
  all the same: `train.block_gradients` does not compute them.

  Args:
    inner: any transform; its state is dropped at every switch.
    blocks: a pattern of paths for each block, every leaf in one; () for the
      layers, "layers/0", "h/1" or "blocks_2", and where there is none, a block
      per entry of the root.
    stacked: a pattern of paths for each stack of layers, as `nn.scan` of Flax
      makes one: "layers/.*". Its leaves have the layers along their first
      axis, and each layer is a block; the state has one layer of each stack.
      `blocks` and `others` are of what is in no stack.
    others: of what is in no layer: "never" trained, or one more "block".
    order: "random": each once, shuffled anew (the last choice of a round may
      begin it again, where they do not come out even); "ascending" or
      "descending";
      "independent": drawn anew each time; "greedy": the largest gradients.
    switch_every: steps with the same blocks, K; may be traced.
    num_active: how many blocks move at a time; None stands for 1.
    seed: of random orders, >= 0; may be traced.

  Raises:
    UserError: a value that is not allowed; at `init`, a leaf in no block, or
      fewer blocks than move at a time.
    TypeError: an option or a leaf of another type.
  """
  return block_descent.core(
    "block_wise",
    lambda mask: inner,
    blocks=blocks,
    stacked=stacked,
    others=others,
    order=order,
    switch_every=switch_every,
    num_active=num_active,
    seed=seed,
  )
