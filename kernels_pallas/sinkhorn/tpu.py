"""A Pallas kernel for TPU: X is read once per round.

A step has some whole rows; the sums over rows accumulate in one block that all
steps of a matrix revisit, in order.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from kernels_pallas import tiles
from kernels_pallas.sinkhorn import ref, rounds

_BYTES_PER_VALUE = 24  # two buffers and some four temporaries


def supports(shape: tuple[int, ...]) -> str | None:
  """Why the kernel cannot take matrices of this shape."""
  if tiles.tpu_rows(shape[-1], _BYTES_PER_VALUE) is None:
    return f"rows of {shape[-1]} values do not fit the kernel's memory"
  return None


def sinkhorn(
  x: Any,
  num_iters: int = 5,
  first: str = "output",
  *,
  interpret: Any = False,
) -> Any:
  """See `kernels_pallas.sinkhorn.sinkhorn`."""
  kernel = functools.partial(balance, interpret=interpret)
  return rounds.by_kernel(kernel, x, num_iters, first)


def balance(
  xs: Sequence[Array],
  num_iters: int,
  first: str,
  *,
  interpret: Any = False,
) -> list[Array]:
  """See `ref.sinkhorn`, of each; `interpret` runs it anywhere."""
  return [
    rounds.balance(
      [x], num_iters, first, functools.partial(_pass, x, interpret)
    )[0]
    for x in xs
  ]


def _pass(
  x: Array,
  interpret: Any,
  inverse: Array,
  v: Array,
  *,
  given: bool,
  sums: bool,
) -> tuple[Array, Array | None]:
  """See `rounds.balance`."""
  count, m, n = x.shape
  size = tiles.tpu_block(
    m,
    n,
    _BYTES_PER_VALUE,
    kernel="sinkhorn/pallas_tpu forward",
    about=str(x.dtype),
  )
  vector = pl.BlockSpec((1, 1, n), lambda k, i: (k, 0, 0))
  u, total = pl.pallas_call(
    functools.partial(_kernel, given=given, rows=m),
    grid=(count, pl.cdiv(m, size)),
    in_specs=[
      pl.BlockSpec(memory_space=pltpu.SMEM),
      pl.BlockSpec((1, size, n), lambda k, i: (k, i, 0)),
      vector,
    ],
    out_specs=[pl.BlockSpec((1, size, 1), lambda k, i: (k, i, 0)), vector],
    out_shape=[
      jax.ShapeDtypeStruct((count, m, 1), jnp.float32),
      jax.ShapeDtypeStruct((count, 1, n), jnp.float32),
    ],
    compiler_params=pltpu.CompilerParams(
      dimension_semantics=("parallel", "arbitrary")
    ),
    cost_estimate=pl.CostEstimate(
      flops=6 * x.size,
      bytes_accessed=x.size * x.dtype.itemsize,
      transcendentals=count * m,
    ),
    interpret=interpret,
    name="sinkhorn_pass",
  )(inverse, x, v[:, None])
  return u[..., 0], total[:, 0] if sums else None


def _kernel(
  inverse_ref, x_ref, v_ref, u_ref, total_ref, *, given: bool, rows: int
):
  k, i = pl.program_id(0), pl.program_id(1)
  w = x_ref[0].astype(jnp.float32) * inverse_ref[k]
  size, width = w.shape
  if rows % size:
    # Rows past the end hold anything, and must not reach the sums.
    row = lax.broadcasted_iota(jnp.int32, w.shape, 0) + i * size
    w = jnp.where(row < rows, w, 0)
  if given:
    u = jnp.ones((size, 1), jnp.float32)
  else:
    u = ref.side(jnp.sum((w * v_ref[0]) ** 2, axis=1, keepdims=True), width)
  u_ref[0] = u

  @pl.when(i == 0)
  def _():
    total_ref[...] = jnp.zeros_like(total_ref)

  total_ref[0] += jnp.sum((w * u) ** 2, axis=0, keepdims=True)
