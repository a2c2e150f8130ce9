"""Pallas kernels for TPU: x is read once forward, x and dy once backward.

Nothing but x and the scale is kept for the backward pass: its kernel has the
whole row at hand, so that the root mean square costs no traffic, whereas one
float32 a row would be padded to 128 lanes in memory. The gradient of the scale
accumulates in one block that every step of a sequential grid revisits.
"""

import functools
from typing import cast

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from kernels_pallas.rms_norm import ref

# A step holds x, dy and dx twice (double buffering) and some four float32
# temporaries: 40 bytes per value at most. Half of what a kernel gets, 16 MiB.
_BLOCK_BYTES = 8 * 2**20
_BYTES_PER_VALUE = 40
_SUBLANES = 16  # rows of a bfloat16 tile; float32 has 8
_MOST_ROWS = 512


def block_rows(width: int) -> int | None:
  """Rows of `width` values that a step handles; None if not one tile fits."""
  rows = _BLOCK_BYTES // (_BYTES_PER_VALUE * width)
  rows = min(rows, _MOST_ROWS) // _SUBLANES * _SUBLANES
  return rows or None


def rms_norm(
  x: Array, scale: Array | None, eps: float, *, interpret: bool = False
) -> Array:
  """See `kernels_pallas.rms_norm.rms_norm`; `interpret` runs it anywhere."""
  width = x.shape[-1]
  if scale is None:
    scale = jnp.ones((width,), jnp.float32)
  y_bd = _rms_norm(x.reshape(-1, width), scale, eps, interpret)
  return cast(Array, y_bd).reshape(x.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _rms_norm(
  x_bd: Array, scale_d: Array, eps: float, interpret: bool
) -> Array:
  rows, width = x_bd.shape
  block, row, whole = _specs(rows, width)
  return pl.pallas_call(
    functools.partial(_forward_kernel, eps=eps),
    grid=(pl.cdiv(rows, block),),
    in_specs=[row, whole],
    out_specs=row,
    out_shape=jax.ShapeDtypeStruct(x_bd.shape, x_bd.dtype),
    compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel",)),
    cost_estimate=_cost(x_bd, passes=2),
    interpret=interpret,
    name="rms_norm_forward",
  )(x_bd, scale_d[None])


def _forward(x_bd: Array, scale_d: Array, eps: float, interpret: bool):
  return _rms_norm(x_bd, scale_d, eps, interpret), (x_bd, scale_d)


def _backward(eps: float, interpret: bool, residuals, dy_bd: Array):
  x_bd, scale_d = residuals
  rows, width = x_bd.shape
  block, row, whole = _specs(rows, width)
  dx_bd, dscale_1d = pl.pallas_call(
    functools.partial(_backward_kernel, eps=eps, rows=rows),
    grid=(pl.cdiv(rows, block),),
    in_specs=[row, whole, row],
    out_specs=[row, whole],
    out_shape=[
      jax.ShapeDtypeStruct(x_bd.shape, x_bd.dtype),
      jax.ShapeDtypeStruct((1, width), jnp.float32),
    ],
    compiler_params=pltpu.CompilerParams(dimension_semantics=("arbitrary",)),
    cost_estimate=_cost(x_bd, passes=3),
    interpret=interpret,
    name="rms_norm_backward",
  )(x_bd, scale_d[None], dy_bd)
  return dx_bd, dscale_1d[0].astype(scale_d.dtype)


_rms_norm.defvjp(_forward, _backward)


def _specs(rows: int, width: int) -> tuple[int, pl.BlockSpec, pl.BlockSpec]:
  """Rows of a block, and the specs of a block of rows and of the scale."""
  block = block_rows(width)
  if block is None:
    raise ValueError(f"rows of {width} values do not fit the kernel's memory.")
  block = min(block, pl.cdiv(rows, _SUBLANES) * _SUBLANES)
  return (
    block,
    pl.BlockSpec((block, width), lambda i: (i, 0)),
    pl.BlockSpec((1, width), lambda i: (0, 0)),
  )


def _cost(x_bd: Array, passes: int) -> pl.CostEstimate:
  """What XLA's scheduler is told: it cannot look into the kernel."""
  return pl.CostEstimate(
    flops=4 * passes * x_bd.size,
    bytes_accessed=passes * x_bd.size * x_bd.dtype.itemsize,
    transcendentals=x_bd.shape[0],
  )


def _forward_kernel(x_ref, scale_ref, y_ref, *, eps: float):
  y_ref[...] = ref.rms_norm(x_ref[...], scale_ref[...], eps)


def _backward_kernel(
  x_ref, scale_ref, dy_ref, dx_ref, dscale_ref, *, eps: float, rows: int
):
  step = pl.program_id(0)
  x = x_ref[...].astype(jnp.float32)
  dy = dy_ref[...].astype(jnp.float32)
  block = x.shape[0]
  if rows % block:
    # Rows past the end hold anything, and must not reach the scale's gradient.
    row = jax.lax.broadcasted_iota(jnp.int32, x.shape, 0) + step * block
    x = jnp.where(row < rows, x, 0)
    dy = jnp.where(row < rows, dy, 0)
  r = ref.reciprocal_rms(x, eps)
  normalized = x * r
  g = dy * scale_ref[...].astype(jnp.float32)
  along = jnp.mean(g * normalized, axis=-1, keepdims=True)
  dx_ref[...] = ((g - normalized * along) * r).astype(dx_ref.dtype)

  @pl.when(step == 0)
  def _():
    dscale_ref[...] = jnp.zeros_like(dscale_ref)

  dscale_ref[...] += jnp.sum(dy * normalized, axis=0, keepdims=True)
