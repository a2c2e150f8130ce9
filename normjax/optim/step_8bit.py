"""Whole steps of optimizers with 8-bit moments, by `kernels_pallas`' ops."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kernels_pallas import dispatch
from kernels_pallas.step_8bit.rule import Blocks
from normjax import validate
from normjax.optim import in_place, masks
from normjax.optim.quantize_state import BLOCK_SIZE, QuantizeState
from normjax.types import Array, PyTree

# Of the state's moments, in the order of the ops' arguments.
_FIELDS = ("mu", "nu")


def add(
  method: str,
  transform: optax.GradientTransformation,
  op: Any,
  numbers: Callable[..., Any],
  *,
  learning_rate: optax.ScalarOrSchedule,
  mask: Any,
  block_size: int | None,
  block_layout: str,
  sign_repair: bool,
) -> in_place.InPlace:
  """The transform, and how an op of `kernels_pallas` takes its whole step.

  Args:
    method: for messages.
    transform: its state has one `QuantizeState`, and a count of the schedule
      if there is one.
    op: a package of `kernels_pallas`.
    numbers: (count, learning rate, scale of the gradients) -> its `Scalars`.
    learning_rate: as the transform has it.
    mask: which leaves decay, likewise.
    block_size: likewise, as the rest.
    block_layout: "rows" or "flat".
    sign_repair: of the first moment.
  """
  blocks = Blocks(
    BLOCK_SIZE if block_size is None else block_size, block_layout, sign_repair
  )
  chooser = op.api.of_blocks(blocks)
  update = getattr(op, chooser.name)
  kernels = {each.name for each in chooser.candidates if each.silicon}

  def serves(gradients, state, params):
    flat = jax.tree.leaves(params)
    if dispatch.target(*flat).platform == "cpu":
      return False
    leaves = zip(*_columns(gradients, state, params), strict=True)
    return not kernels.isdisjoint(chooser.by_leaf(None, leaves))

  def apply(gradients, state, params, *, impl=None, scale=1.0, **extra_args):
    asked = validate.implementations(method, impl, op.IMPLEMENTATIONS)
    dtypes = [g.dtype for g in jax.tree.leaves(gradients)]
    if asked is None and jnp.float64 in dtypes:
      # One step has one set of scalars; these leaves have wider ones.
      return in_place.by_update(
        transform, gradients, state, params, scale, **extra_args
      )
    nodes, whole = jax.tree.flatten(state, is_leaf=_is_node)
    (quantized,) = (x for x in nodes if isinstance(x, QuantizeState))
    count = optax.safe_increment(quantized.inner.count)
    rate = learning_rate
    if callable(rate):
      (schedule,) = (x for x in nodes if _is_schedule(x))
      rate = rate(schedule.count)
    structure = jax.tree.structure(params)
    moved, *moments, squares = update(
      *_columns(gradients, state, params),
      numbers(count, rate, scale),
      decayed=masks.resolve_mask(mask, params),
      block_size=blocks.size,
      block_layout=block_layout,
      sign_repair=sign_repair,
      impl=asked,
    )
    inner = _with_moments(quantized.inner, moments, structure)
    new = {
      QuantizeState: lambda x: x._replace(inner=inner._replace(count=count)),
      optax.ScaleByScheduleState: lambda x: x._replace(
        count=optax.safe_increment(x.count)
      ),
    }
    nodes = [new.get(type(x), lambda x: x)(x) for x in nodes]
    return in_place.Step(
      structure.unflatten(moved),
      whole.unflatten(nodes),
      jnp.sqrt(squares),
      updates=None,
    )

  return in_place.add(transform, apply, serves)


def _is_schedule(node: Any) -> bool:
  return isinstance(node, optax.ScaleByScheduleState)


def _is_node(node: Any) -> bool:
  return _is_schedule(node) or isinstance(node, QuantizeState)


def _columns(
  gradients: PyTree, state: PyTree, params: PyTree
) -> list[list[Array | None]]:
  """Parameters, gradients, codes and scales of the moments: lists of leaves."""
  flat, structure = jax.tree.flatten(params)
  nodes = jax.tree.leaves(state, is_leaf=_is_node)
  (quantized,) = (x for x in nodes if isinstance(x, QuantizeState))
  fields = (getattr(quantized.inner, name, ()) for name in _FIELDS)
  return [
    flat,
    structure.flatten_up_to(gradients),
    *(
      [
        None if isinstance(x, optax.MaskedNode) else x
        for x in structure.flatten_up_to(tree)
      ]
      for field in fields
      for tree in field
    ),
  ]


def _with_moments(inner: Any, moments: Sequence[Any], structure: Any) -> Any:
  """The state with what an op has returned of its moments."""
  trees = iter(
    structure.unflatten(optax.MaskedNode() if x is None else x for x in column)
    for column in moments
  )
  return inner._replace(
    **{
      name: getattr(inner, name)._replace(codes=next(trees), absmax=next(trees))
      for name in _FIELDS
      if hasattr(inner, name)
    }
  )
