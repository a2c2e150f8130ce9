"""A Pallas kernel for TPU: every buffer is read and written once, in place.

One launch per leaf. A step has some rows and a block of their columns. The
scales of a row are too few for a block of their own: a step has them all, takes
its column of them by a mask, and the last step writes them.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from kernels_pallas import codes, tiles
from kernels_pallas.codes import Quantized
from kernels_pallas.step_8bit import leaves as leaves_lib
from kernels_pallas.step_8bit import rule as rule_lib
from kernels_pallas.step_8bit.rule import Blocks, Leaf, Rule

_LANES = 128
_ROWS = 256  # of a step, at most: some 20 float32 temporaries of 256 KiB
_SUBLANES = 32  # rows of a tile of uint8


def supports(
  shape: tuple[int, ...], blocks: Blocks, *, exact: bool
) -> str | None:
  """Why the kernel cannot take a leaf; `exact`: of float32 moments."""
  if exact:
    return "holds moments in 8 bits; XLA fuses those of float32 as well"
  if blocks.size % _LANES:
    return f"needs blocks of a multiple of {_LANES}, not {blocks.size}"
  rows, width = rule_lib.matrix(shape, blocks)
  if width < blocks.size or not rows:
    return f"needs rows of {blocks.size} values or more, not shape {shape}"
  return None


def step(
  rule: Rule, *arguments: Any, interpret: Any = False, **options: Any
) -> leaves_lib.Results:
  """The op's results; arguments as `leaves.of_trees` has them."""
  kernel = functools.partial(update, interpret=interpret)
  return leaves_lib.of_trees(
    leaves_lib.by_kernel(kernel), rule, *arguments, **options
  )


def update(
  rule: Rule,
  leaves: Sequence[Leaf],
  gradients: Sequence[Array],
  scalars: Any,
  *,
  decayed: Sequence[bool],
  blocks: Blocks,
  interpret: Any = False,
) -> tuple[list[Leaf], Array]:
  """The leaves after one step, and the sum of the steps' squares."""
  numbers = jnp.stack([jnp.asarray(s, jnp.float32) for s in scalars])
  moved, squares = zip(
    *(
      _update(rule, leaf, g, numbers, decay, blocks, interpret)
      for leaf, g, decay in zip(leaves, gradients, decayed, strict=True)
    ),
    strict=True,
  )
  return list(moved), sum(squares, jnp.zeros(()))


def _update(
  rule, leaf, gradient, numbers, decayed, blocks, interpret
) -> tuple[Leaf, Array]:
  rows, width = rule_lib.matrix(leaf.parameter.shape, blocks)
  count = math.ceil(width / blocks.size)
  most = tiles.tpu_most(
    f"{rule.name}/pallas_tpu forward",
    f"{blocks.size} {leaf.parameter.dtype}",
    _ROWS,
    _SUBLANES,
  )
  size = min(most, math.ceil(rows / _SUBLANES) * _SUBLANES)
  tile = pl.BlockSpec((size, blocks.size), lambda i, k: (i, k))
  scales = pl.BlockSpec((size, count), lambda i, k: (i, 0))

  w, moments = leaf
  held = [w, *(m.codes for m in moments), *(m.absmax for m in moments)]
  arrays = [x.reshape(rows, -1) for x in (*held, gradient)]
  specs = [*[tile] * (1 + len(moments)), *[scales] * len(moments)]
  squares = jax.ShapeDtypeStruct((rows, count), jnp.float32)
  moved_bytes = sum(2 * x.size * x.dtype.itemsize for x in arrays)
  *new, squares = pl.pallas_call(
    functools.partial(
      _kernel, rule=rule, width=width, decayed=decayed, blocks=blocks
    ),
    grid=(pl.cdiv(rows, size), count),
    in_specs=[pl.BlockSpec(memory_space=pltpu.SMEM), *specs, tile],
    out_specs=[*specs, scales],
    out_shape=[
      *(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in arrays[:-1]),
      squares,
    ],
    # Interpreted, a buffer in place keeps the size of its last, ragged block.
    input_output_aliases=(
      {} if interpret else {n + 1: n for n in range(len(held))}
    ),
    compiler_params=pltpu.CompilerParams(
      dimension_semantics=("parallel", "arbitrary")
    ),
    cost_estimate=pl.CostEstimate(
      flops=60 * len(moments) * w.size,
      bytes_accessed=moved_bytes - gradient.size * gradient.dtype.itemsize,
      transcendentals=w.size,
    ),
    interpret=interpret,
    name=rule.name,
  )(numbers, *arrays)
  w, *new = (x.reshape(old.shape) for x, old in zip(new, held, strict=True))
  pairs = zip(new[: len(moments)], new[len(moments) :], strict=True)
  return Leaf(w, tuple(Quantized(*pair) for pair in pairs)), jnp.sum(squares)


def _kernel(
  numbers_ref,
  *refs,
  rule: Rule,
  width: int,
  decayed: bool,
  blocks: Blocks,
):
  count = len(rule.signed)
  w_ref, *held, g_ref = refs[: 2 * count + 2]
  new_w_ref, *new, squares_ref = refs[2 * count + 2 :]
  block = pl.program_id(1)
  mine = (
    lax.broadcasted_iota(jnp.int32, squares_ref.shape, 1) == block
  )  # The scales of this step's columns.

  def scale(held_ref):
    return jnp.sum(jnp.where(mine, held_ref[...], 0), axis=1, keepdims=True)

  scalars = rule.scalars(*(numbers_ref[n] for n in range(numbers_ref.shape[0])))
  moments = [
    codes.value(codes_ref[...].astype(jnp.int32), signed) * scale(absmax_ref)
    for codes_ref, absmax_ref, signed in zip(
      held[:count], held[count:], rule.signed, strict=True
    )
  ]
  decay = rule.decay(scalars) if decayed else None
  new_w_ref[...], squares, moments = rule_lib.moved(
    rule, w_ref[...], g_ref[...], moments, scalars, decay
  )
  if width % blocks.size:
    # Columns past the end hold anything, and must not reach a scale.
    column = lax.broadcasted_iota(jnp.int32, squares.shape, 1)
    column += block * blocks.size
    squares, *moments = (
      jnp.where(column < width, x, 0) for x in (squares, *moments)
    )
  for x, codes_ref, absmax_ref, signed in zip(
    moments, new[:count], new[count:], rule.signed, strict=True
  ):
    found, absmax = codes.of_block(x, signed, blocks.sign_repair)
    codes_ref[...] = found.astype(jnp.uint8)
    absmax_ref[...] = jnp.where(mine, absmax, absmax_ref[...])
  total = jnp.sum(squares, axis=1, keepdims=True)
  squares_ref[...] = jnp.where(mine, total, squares_ref[...])
