"""The reference: plain operations, leaf by leaf."""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from kernels_pallas import codes, safe
from kernels_pallas.codes import Quantized
from kernels_pallas.precision import promote

type Scalar = Array | float


class Scalars(NamedTuple):
  """The numbers of a step, in the order in which an array may hold them."""

  learning_rate: Scalar
  b1: Scalar
  b2: Scalar
  eps: Scalar
  weight_decay: Scalar
  first: Scalar  # 1 / (1 - b1^t).
  second: Scalar  # 1 / sqrt(1 - b2^t).


class Leaf(NamedTuple):
  """A parameter, and what a step reads of it and writes again."""

  parameter: Array
  mu: Quantized  # absmax is None where codes hold float32 moments.
  nu: Quantized


class Blocks(NamedTuple):
  """How moments are cut and rounded: as `normjax.optim.adam_8bit` says."""

  size: int = 256
  layout: str = "rows"
  sign_repair: bool = True


def matrix(shape: tuple[int, ...], blocks: Blocks) -> tuple[int, int]:
  """The leaf as (rows, width), a view; blocks are cut from the width."""
  size = math.prod(shape)
  if blocks.layout == "flat":
    # A size that is no multiple of a block is one row.
    width = blocks.size if size % blocks.size == 0 else size
  else:
    width = shape[-1] if shape else 1
  return (size // width if width else 0), width


def is_good(g: Array) -> Array:
  """Whether the second moment of a gradient is a number."""
  # Mosaic has no `is_finite`.
  return g * g < jnp.inf


def direction(
  g: Array, m: Array, v: Array, scalars: Scalars
) -> tuple[Array, Array, Array]:
  """Adam's direction and moments, which are 0 where the gradient is no good."""
  b1, b2 = scalars.b1, scalars.b2
  good = is_good(g)
  m = jnp.where(good, b1 * m + (1 - b1) * g, 0)
  v = jnp.where(good, b2 * v + (1 - b2) * g * g, 0)
  root = jnp.sqrt(v) * scalars.second
  return safe.divide(m * scalars.first, root + scalars.eps), m, v


def moved(
  w: Array,
  g: Array,
  direction: Array,
  rate: Scalar,
  decay: Scalar | None,
) -> Array:
  """The parameter after the step, which an entry of no good does not take.

  Args:
    w: in any floating dtype, which the step is rounded to before it is added.
    g: its gradient, promoted.
    direction: of the promoted dtype.
    rate: the learning rate.
    decay: the share of the weight, after the step, that is taken off.
      None for none.
  """
  step = -rate * direction
  if decay is not None:
    step = step - decay * (w.astype(step.dtype) + step)
  step = jnp.where(is_good(g), step, 0)
  # In two roundings where w has 16 bits, as updates in its dtype have.
  return (promote(w) + promote(step.astype(w.dtype))).astype(w.dtype)


def update_leaf(
  leaf: Leaf,
  gradient: Array,
  scalars: Scalars,
  *,
  decayed: bool,
  blocks: Blocks,
  form: str,
) -> Leaf:
  """The leaf after one step; `decayed` says whether it decays."""

  def load(held, signed):
    if held.absmax is None:
      return held.codes
    return codes.dequantize(held, blocks.size, signed, blocks.layout, form)

  def store(x, held, signed):
    if held.absmax is None:
      return Quantized(x, None)
    repair = blocks.sign_repair and signed
    return codes.quantize(x, blocks.size, signed, blocks.layout, repair, form)

  g = promote(gradient)
  step, m, v = direction(g, load(leaf.mu, True), load(leaf.nu, False), scalars)
  rate = scalars.learning_rate
  decay = rate * scalars.weight_decay if decayed else None
  return Leaf(
    moved(leaf.parameter, g, step, rate, decay),
    store(m, leaf.mu, True),
    store(v, leaf.nu, False),
  )
