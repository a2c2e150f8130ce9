"""What an optimizer does to an entry, and the plain pass over a leaf."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from kernels_pallas import codes
from kernels_pallas.codes import Quantized
from kernels_pallas.precision import promote

type Scalar = Array | float


class Leaf(NamedTuple):
  """A parameter, and what a step reads of it and writes again.

  Attributes:
    parameter: in any floating dtype.
    moments: absmax is None where codes hold float32 moments.
  """

  parameter: Array
  moments: tuple[Quantized, ...]


class Blocks(NamedTuple):
  """How moments are cut and rounded: as `normjax.optim.adam_8bit` says."""

  size: int = 256
  layout: str = "rows"
  sign_repair: bool = True


class Rule(NamedTuple):
  """An optimizer with 8-bit moments, entry by entry.

  Attributes:
    name: of the op.
    scalars: a NamedTuple, the numbers of a step: `gradient_scale` is that by
      which a gradient is multiplied first.
    signed: whether each moment has signs.
    decay: from the scalars to the last argument of `step`.
    step: (w, g, moments, scalars, decay) -> (what is added to w, moments).
      `decay` is None or 0 where the leaf does not decay; all is promoted.
  """

  name: str
  scalars: Any
  signed: tuple[bool, ...]
  decay: Callable[[Any], Scalar]
  step: Callable[..., tuple[Array, tuple[Array, ...]]]


def matrix(shape: tuple[int, ...], blocks: Blocks) -> tuple[int, int]:
  """The leaf as (rows, width), a view; blocks are cut from the width."""
  size = math.prod(shape)
  if blocks.layout == "flat":
    # A size that is no multiple of a block is one row.
    width = blocks.size if size % blocks.size == 0 else size
  else:
    width = shape[-1] if shape else 1
  return (size // width if width else 0), width


def scale_shape(shape: tuple[int, ...], blocks: Blocks) -> tuple[int, ...]:
  """The shape of absmax, of a leaf of this shape."""
  if blocks.layout == "flat" or not shape:
    shape = (math.prod(shape),)
  size = max(1, min(blocks.size, shape[-1]))
  return (*shape[:-1], math.ceil(shape[-1] / size))


def is_finite(x: Array) -> Array:
  """Whether an entry is a number."""
  # Mosaic has no `is_finite`.
  return jnp.abs(x) < jnp.inf


def moved(
  rule: Rule,
  w: Array,
  gradient: Array,
  moments: Sequence[Array],
  scalars: Any,
  decay: Scalar | None,
) -> tuple[Array, Array, tuple[Array, ...]]:
  """The parameter after the step, the step's square, and the moments."""
  g = promote(gradient) * scalars.gradient_scale
  step, moments = rule.step(w.astype(g.dtype), g, moments, scalars, decay)
  # In two roundings where w has 16 bits, as updates in its dtype have.
  step = promote(step.astype(w.dtype))
  return (promote(w) + step).astype(w.dtype), step * step, moments


def update_leaf(
  rule: Rule,
  leaf: Leaf,
  gradient: Array,
  scalars: Any,
  *,
  decayed: bool,
  blocks: Blocks,
  form: str,
) -> tuple[Leaf, Array]:
  """The leaf after one step, and the sum of the step's squares.

  Args:
    rule: of the optimizer.
    leaf: before the step.
    gradient: of its parameter.
    scalars: of the step.
    decayed: whether the leaf decays.
    blocks: as they were.
    form: of the codes.
  """

  def load(held, signed):
    if held.absmax is None:
      return held.codes
    return codes.dequantize(held, blocks.size, signed, blocks.layout, form)

  def store(x, held, signed):
    if held.absmax is None:
      return Quantized(x, None)
    repair = blocks.sign_repair and signed
    return codes.quantize(x, blocks.size, signed, blocks.layout, repair, form)

  pairs = list(zip(leaf.moments, rule.signed, strict=True))
  w, squares, moments = moved(
    rule,
    leaf.parameter,
    gradient,
    [load(*pair) for pair in pairs],
    scalars,
    rule.decay(scalars) if decayed else None,
  )
  stored = [store(x, *pair) for x, pair in zip(moments, pairs, strict=True)]
  return Leaf(w, tuple(stored)), jnp.sum(squares)
