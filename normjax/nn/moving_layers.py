"""A loop over like layers of which only some get gradients.

The gradient of a loop is a loop over all layers: it makes the gradient of each
one's parameters, and holds what each product read. Here the loop back passes
over layers below the first that moves, goes through the others by the gradient
of their input alone, and makes gradients of parameters where a layer moves.
What is held of a layer is its input; the rest is computed again.

Which layers move may be traced: one program serves every choice of them. Who
takes the gradient says it (`moving`), and a scanned stack asks (`current`).
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from normjax.types import Array, PyTree


class Moving(NamedTuple):
  """Which layers of a model's stack move.

  Attributes:
    slots: of each layer by its path, "layers/0": its place among those that
      move, int32; -1: it does not. A layer that has no entry does not, either.
    width: how many places there are.
    before: whether something else moves that may come before the layers, bool.
  """

  slots: Mapping[str, Array]
  width: int
  before: Array | bool


_MOVING: contextvars.ContextVar[Moving | None] = contextvars.ContextVar(
  "moving_layers", default=None
)


@contextlib.contextmanager
def moving(found: Moving) -> Iterator[None]:
  """Says which layers move while a model is called."""
  token = _MOVING.set(found)
  try:
    yield
  finally:
    _MOVING.reset(token)


def current() -> Moving | None:
  """What is said here; None: all layers move."""
  return _MOVING.get()


# (stream, (variables, *others) of a layer) -> the stream and new statistics.
Apply = Callable[[Array, tuple[Any, ...]], tuple[Array, PyTree]]


def run_group(
  apply: Apply,
  found: Moving,
  x: Array,
  group: Sequence[int],
  layers: Sequence[tuple[Any, ...]],
) -> tuple[Array, PyTree]:
  """The stream through like layers, and their new statistics, stacked.

  Args:
    apply: one layer; what it closes over has no gradient.
    found: which layers move.
    x: the stream.
    group: numbers of the layers, consecutive.
    layers: for each what `apply` takes.
  """
  every = [
    jnp.asarray(found.slots.get(f"layers/{i}", -1), jnp.int32)
    for i in range(group[-1] + 1)
  ]
  slots = jnp.stack(every)
  # Neither a layer nor what comes before it moves: nothing goes back so far.
  below = (jnp.cumsum(slots >= 0) == 0) & ~jnp.asarray(found.before)
  rows = [dict(variables) for variables, *_ in layers]
  params = [row.pop("params") for row in rows]
  grad_stats = [row.pop("grad_stats") for row in rows]
  others = [(row, *each[1:]) for row, each in zip(rows, layers, strict=True)]
  inside = slice(group[0], None)
  return run(
    apply,
    found.width,
    x,
    params,
    grad_stats,
    others,
    slots[inside],
    below[inside],
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def run(
  apply: Apply,
  width: int,
  x: Array,
  params: Sequence[PyTree],
  grad_stats: Sequence[PyTree],
  others: Sequence[Any],
  slots: Array,
  below: Array,
) -> tuple[Array, PyTree]:
  """The stream through like layers, and their new statistics, stacked.

  Args:
    apply: one layer; what it closes over has no gradient.
    width: how many layers move at most.
    x: the stream.
    params: of each layer.
    grad_stats: statistics of the backward pass of each layer; where there are
      some no layer is passed over.
    others: the rest of each layer's variables, and what else `apply` takes.
    slots: of each layer, see `Moving`; the gradient of one at -1 is zero.
    below: which layers are passed over; so is what comes before them.
  """
  return _forward(apply, width, x, params, grad_stats, others, slots, below)[0]


def _forward(apply, width, x, params, grad_stats, others, slots, below):
  del width
  layers = _stacked(params), _stacked(grad_stats), _stacked(others)

  def body(x, layer):
    after, stats = apply(x, _inputs(*layer))
    return after, (stats, x)

  last, (stats, before) = lax.scan(body, x, layers)
  return (last, stats), (before, layers, slots, below)


def _backward(apply, width, kept, cotangents):
  before, layers, slots, below = kept
  params, grad_stats, _ = layers
  if jax.tree.leaves(grad_stats):
    below = jnp.zeros_like(below)
  one = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape[1:], leaf.dtype), params)
  # New statistics have no gradient.
  (d_x, _), found = cotangents, (one,) * width

  def passed_over(carry, x, layer, slot):
    del x, slot
    _, grad_stats, _ = layer
    return carry, jax.tree.map(jnp.zeros_like, grad_stats)

  def still(carry, x, layer, slot):
    del slot
    (d_x, found), (params, grad_stats, others) = carry, layer

    def through(x, grad_stats):
      return apply(x, _inputs(params, grad_stats, others))[0]

    d_x, d_grad_stats = jax.vjp(through, x, grad_stats)[1](d_x)
    return (d_x, found), d_grad_stats

  def moved(carry, x, layer, slot):
    (d_x, found), (params, grad_stats, others) = carry, layer

    def through(x, grad_stats, params):
      return apply(x, _inputs(params, grad_stats, others))[0]

    d_x, d_grad_stats, d_params = jax.vjp(through, x, grad_stats, params)[1](
      d_x
    )
    found = tuple(
      jax.tree.map(
        lambda old, new, k=k: jnp.where(slot == k, new, old), each, d_params
      )
      for k, each in enumerate(found)
    )
    return (d_x, found), d_grad_stats

  def body(carry, inputs):
    x, layer, slot, is_below = inputs
    branch = jnp.where(is_below, 0, jnp.where(slot < 0, 1, 2))
    return lax.switch(
      branch, (passed_over, still, moved), carry, x, layer, slot
    )

  (d_x, found), d_grad_stats = lax.scan(
    body, (d_x, found), (before, layers, slots, below), reverse=True
  )
  d_params = [_of_layer(found, one, slot) for slot in slots]
  each = [
    jax.tree.map(lambda leaf, i=i: leaf[i], d_grad_stats)
    for i in range(len(d_params))
  ]
  return d_x, d_params, each, None, None, None


run.defvjp(_forward, _backward)


def _of_layer(found, one, slot):
  total = jax.tree.map(jnp.zeros_like, one)
  for k, gradient in enumerate(found):
    total = jax.tree.map(
      lambda a, b, k=k: jnp.where(slot == k, b, a), total, gradient
    )
  return total


def _inputs(params, grad_stats, others):
  variables, *rest = others
  variables = {**variables, "params": params, "grad_stats": grad_stats}
  return (variables, *rest)


def _stacked(trees: Sequence[PyTree]) -> PyTree:
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
