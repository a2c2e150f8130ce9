"""Mosaic kernels for GPUs of Hopper: a row is read once, forward and backward.

The variance takes a second pass over the row's registers, none over memory.
The mean and the reciprocal deviation are kept for the backward pass, 8 bytes
per row, so that it sums once where it would sum three times. The gradients of
scale and bias are one partial sum per CTA, which XLA adds up: without atomics,
so that the same rows give the same bits.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from kernels_pallas import residual as residual_lib
from kernels_pallas import tiles, warpgroup
from kernels_pallas.layer_norm import rows as rows_lib

# Backward, each CTA leaves rows of partial sums.
_CTAS_WITH_SUMS = 2

_Residuals = tuple[Array, Array | None, Array | None, Array, Array]

_Results = tuple[Array, Array | None]


def layer_norm(
  x: Array,
  scale: Array | None = None,
  bias: Array | None = None,
  residual: Array | None = None,
  eps: float = 1e-6,
  *,
  interpret: Any = None,
) -> residual_lib.Results:
  """See `kernels_pallas.layer_norm.layer_norm`.

  `interpret`, of `plgpu.InterpretGPUParams`, runs it anywhere.
  """
  return residual_lib.by_rows(
    lambda x_bd, residual_bd: _layer_norm(
      x_bd, residual_bd, scale, bias, eps, interpret
    ),
    x,
    residual,
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _layer_norm(
  x_bd: Array,
  residual_bd: Array | None,
  scale_d: Array | None,
  bias_d: Array | None,
  eps: float,
  interpret: Any,
) -> tuple[Array, Array | None]:
  """y, and with a residual what was normalised."""
  y_bd, h_bd, _, _ = _run_forward(
    x_bd, residual_bd, scale_d, bias_d, eps, interpret, keep=False
  )
  return y_bd, h_bd


def _forward(
  x_bd: Array,
  residual_bd: Array | None,
  scale_d: Array | None,
  bias_d: Array | None,
  eps: float,
  interpret: Any,
) -> tuple[tuple[Array, Array | None], _Residuals]:
  y_bd, h_bd, center_b, r_b = _run_forward(
    x_bd, residual_bd, scale_d, bias_d, eps, interpret, keep=True
  )
  kept = x_bd if h_bd is None else h_bd
  return (y_bd, h_bd), (kept, scale_d, bias_d, center_b, r_b)


def _run_forward(
  x_bd, residual_bd, scale_d, bias_d, eps: float, interpret: Any, *, keep: bool
):
  """y, and those that there are of h, the rows' means and reciprocals."""
  rows, width = x_bd.shape
  tile = tiles.gpu(
    rows,
    width,
    x_bd.dtype,
    arrays=1 + (residual_bd is not None),
    vectors=(scale_d is not None) + (bias_d is not None),
    kernel="layer_norm/mosaic_gpu forward",
  )

  def body(
    x_ref, residual_ref, scale_ref, bias_ref, y_ref, h_ref, center_ref, r_ref
  ):
    scale = warpgroup.vector(scale_ref, tile)
    bias = warpgroup.vector(bias_ref, tile)

    def fetch(row):
      return warpgroup.load_rows(tile, row, x_ref, residual_ref)

    def compute(row, fetched, _):
      h_d = warpgroup.total(fetched, h_ref, row)
      center, r = rows_lib.center_and_reciprocal(h_d, eps, jnp.sum)
      if keep:
        center_ref[row] = center
        r_ref[row] = r
      y_d = (h_d - center) * r
      y_d = warpgroup.scaled(y_d, scale)
      y_d = y_d if bias is None else y_d + bias()
      y_ref[row] = y_d.astype(y_ref.dtype)

    warpgroup.over_rows(tile, rows, fetch, compute)

  out = jax.ShapeDtypeStruct(x_bd.shape, x_bd.dtype)
  number = jax.ShapeDtypeStruct((rows,), jnp.float32) if keep else None
  return warpgroup.launch(
    body,
    "layer_norm_forward",
    tile,
    (out, None if residual_bd is None else out, number, number),
    x_bd,
    residual_bd,
    scale_d,
    bias_d,
    interpret=interpret,
  )


def _backward(
  eps: float,
  interpret: Any,
  residuals: _Residuals,
  cotangents: tuple[Array, Array | None],
):
  """See `xla`; the gradient of what was normalised is added to dx."""
  del eps
  h_bd, scale_d, bias_d, center_b, r_b = residuals
  dy_bd, dh_bd = cotangents
  rows, width = h_bd.shape
  count = (scale_d is not None) + (bias_d is not None)
  tile = tiles.gpu(
    rows,
    width,
    h_bd.dtype,
    arrays=2 + (dh_bd is not None),
    vectors=count + (scale_d is not None),
    per_multiprocessor=_CTAS_WITH_SUMS,
    ahead=True,
    kernel="layer_norm/mosaic_gpu backward",
  )

  def body(
    h_ref, scale_ref, center_ref, r_ref, dy_ref, dh_ref, dx_ref, sums_ref, *refs
  ):
    scale = warpgroup.vector(scale_ref, tile)
    early_ref, late_ref = (None, dh_ref) if tile.wide else (dh_ref, None)
    sums = warpgroup.RowSums(tile, width, refs)

    def fetch(row):
      loaded = warpgroup.load_rows(tile, row, h_ref, dy_ref, early_ref)
      return loaded, center_ref[row], r_ref[row]

    def compute(row, fetched, carry):
      loaded, center, r = fetched
      h_d, dy_d, *dh_d = (value.astype(jnp.float32) for value in loaded)
      normalized_d = (h_d - center) * r
      g_d = warpgroup.scaled(dy_d, scale)
      means = rows_lib.gradient_means(normalized_d, g_d, jnp.sum)
      # Anew, for registers that would have to hold it meanwhile.
      g_d = warpgroup.scaled(dy_d, scale)
      dx_d = rows_lib.gradient(normalized_d, g_d, r, means)
      dx_d = sum([*dh_d, *warpgroup.load_rows(tile, row, late_ref)], dx_d)
      dx_ref[row] = dx_d.astype(dx_ref.dtype)
      added = () if scale is None else (dy_d * normalized_d,)
      added += () if bias_d is None else (dy_d,)
      return sums.add(carry, *added)

    carry = warpgroup.over_rows(tile, rows, fetch, compute, sums.start(count))
    sums.finish(carry, sums_ref)

  partial = jax.ShapeDtypeStruct((tile.ctas, width), jnp.float32)
  dx_bd, partials = warpgroup.launch(
    body,
    "layer_norm_backward",
    tile,
    (jax.ShapeDtypeStruct(h_bd.shape, h_bd.dtype), (partial,) * count),
    h_bd,
    scale_d,
    center_b,
    r_b,
    dy_bd,
    dh_bd,
    scratch=warpgroup.RowSums.scratch(tile, width, count),
    interpret=interpret,
  )
  totals = [jnp.sum(partial_cd, axis=0) for partial_cd in partials]
  dbias_d = None if bias_d is None else totals.pop().astype(bias_d.dtype)
  dscale_d = None if scale_d is None else totals.pop().astype(scale_d.dtype)
  return dx_bd, None if dh_bd is None else dx_bd, dscale_d, dbias_d


_layer_norm.defvjp(_forward, _backward)
