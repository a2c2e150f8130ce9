"""What Mosaic TPU kernels over rows share: a grid over blocks of whole rows.

Sums over rows are one block that every step of a sequential grid revisits.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from kernels_pallas import tiles


def launch(
  body: Callable[..., tuple[Sequence[Array], Sequence[Array]]],
  name: str,
  arrays_bd: Sequence[Array],
  vectors_d: Sequence[Array],
  *,
  arrays: int,
  sums: int = 0,
  interpret: Any,
) -> tuple[list[Array], list[Array]]:
  """Arrays of rows, and sums over all rows, block by block.

  Args:
    body: from float32 blocks (r, d) of the arrays and vectors (1, d) to blocks
      of the results and to float32 blocks whose rows are to be summed up. Rows
      past the end hold anything, and so may what becomes of them.
    name: of the kernel: that of the op, "_" and "forward" or "backward".
    arrays_bd: read, of equal shape and dtype.
    vectors_d: read, of the row's size.
    arrays: how many the body puts out, of the shape and dtype of those read.
    sums: how many sums over rows.
    interpret: False, or True or `pltpu.InterpretParams` to run anywhere.
  """
  rows, width = arrays_bd[0].shape
  op, _, which = name.rpartition("_")
  block = tiles.tpu_block(
    rows,
    width,
    kernel=f"{op}/pallas_tpu {which}",
    about=f"{arrays_bd[0].dtype} arrays={len(arrays_bd) + arrays}",
  )

  def kernel(*refs):
    read, given = refs[: len(arrays_bd)], refs[len(arrays_bd) :]
    vectors, given = given[: len(vectors_d)], given[len(vectors_d) :]
    step = pl.program_id(0)

    def live(values):
      if not rows % block:
        return values
      row = lax.broadcasted_iota(jnp.int32, values.shape, 0) + step * block
      return jnp.where(row < rows, values, 0)

    results, added = body(
      [ref[...].astype(jnp.float32) for ref in read],
      [ref[...].astype(jnp.float32) for ref in vectors],
    )
    for ref, value in zip(given[:arrays], results, strict=True):
      ref[...] = value.astype(ref.dtype)
    for ref, value in zip(given[arrays:], added, strict=True):

      @pl.when(step == 0)
      def _(ref=ref):
        ref[...] = jnp.zeros_like(ref)

      ref[...] += jnp.sum(live(value), axis=0, keepdims=True)

  array = pl.BlockSpec((block, width), lambda i: (i, 0))
  whole = pl.BlockSpec((1, width), lambda i: (0, 0))
  first = arrays_bd[0]
  order = "arbitrary" if sums else "parallel"
  results = pl.pallas_call(
    kernel,
    grid=(pl.cdiv(rows, block),),
    in_specs=[array] * len(arrays_bd) + [whole] * len(vectors_d),
    out_specs=[array] * arrays + [whole] * sums,
    out_shape=[jax.ShapeDtypeStruct(first.shape, first.dtype)] * arrays
    + [jax.ShapeDtypeStruct((1, width), jnp.float32)] * sums,
    compiler_params=pltpu.CompilerParams(dimension_semantics=(order,)),
    cost_estimate=_cost(first, len(arrays_bd) + arrays),
    interpret=interpret,
    name=name,
  )(*arrays_bd, *(vector_d[None] for vector_d in vectors_d))
  return results[:arrays], [total_1d[0] for total_1d in results[arrays:]]


def row_sum(values: Array) -> Array:
  """The sum of each row of a block, (r, 1)."""
  return jnp.sum(values, axis=-1, keepdims=True)


def _cost(x_bd: Array, passes: int) -> pl.CostEstimate:
  """What XLA's scheduler is told: it cannot look into the kernel."""
  return pl.CostEstimate(
    flops=4 * passes * x_bd.size,
    bytes_accessed=passes * x_bd.size * x_bd.dtype.itemsize,
    transcendentals=x_bd.shape[0],
  )
