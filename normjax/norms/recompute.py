"""What autodiff keeps of a norm between its passes: x, and little else.

The rest is computed again in the backward pass, where it costs no memory
traffic: compilers fuse it with what reads x anyway. It is `jax.checkpoint`, so
that every derivative stays: forward, reverse, second.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax import ad_checkpoint, lax

from kernels_pallas import blocks, dispatch
from normjax.norms import moments
from normjax.types import Array

Params = Any
_KEPT = "kept"
_checkpoint = functools.partial(
  jax.checkpoint, policy=jax.checkpoint_policies.save_only_these_names(_KEPT)
)


def kept(statistic: Array) -> Array:
  """The statistic, which is kept as well: of a row, a channel, an image.

  Worth it where the sums of the backward pass need it: else it costs that pass
  one more reading of x. Where they do not, it costs the forward pass a kernel.
  """
  return ad_checkpoint.checkpoint_name(statistic, _KEPT)


@jax.custom_jvp
def again(wide: Array, x: Array) -> Array:
  """Returns `wide`, the promoted x, promoted once more.

  What two passes over x have in common XLA may write between them. What is made
  of this is not common to them. On a CPU it is `wide`: there arithmetic counts.
  """
  if dispatch.target(x).platform == "cpu":
    return wide
  return moments.promote(lax.optimization_barrier(x))


@again.defjvp
def _again_jvp(primals, tangents):
  return again(*primals), tangents[0]


def keep_input(
  function: Callable[..., Array], params: Params, x: Array, *others: Array
) -> Array:
  """`function(params, x, *others)`; kept are its arguments and what is `kept`.

  Args:
    function: from the arguments to y.
    params: any tree.
    x: in its own dtype: to be promoted inside, once.
    *others: more arrays.
  """
  return _checkpoint(function)(params, x, *others)


def by_rows(
  function: Callable[..., Array], params: Params, x: Array, *others: Array
) -> Array:
  """`keep_input`, block by block of rows where that pays: on a CPU.

  Args:
    function: from params, x (…, d) and others (…, n) to y (…, d). What it does
      to a row depends on no other one.
    params: any tree.
    x: (…, d).
    *others: with the leading axes of x.
  """
  if not blocks.pay(x):
    return keep_input(function, params, x, *others)
  flat = [a.reshape(-1, a.shape[-1]) for a in (x, *others)]
  return _by_block(function, params, blocks.rows(x.shape), *flat).reshape(
    x.shape
  )


def by_images(
  function: Callable[..., Array], params: Params, x: Array
) -> Array:
  """As `by_rows`, of images (b, y, x, c): to each what depends on no other."""
  if not blocks.pay(x):
    return keep_input(function, params, x)
  return _by_block(function, params, blocks.images(x.shape), x)


def _by_block(function, params, size, *arrays):
  # In a loop nothing is a common subexpression of the two passes.
  return blocks.by_block(
    functools.partial(function, params),
    size,
    *arrays,
    wrap=functools.partial(_checkpoint, prevent_cse=False),
  )
