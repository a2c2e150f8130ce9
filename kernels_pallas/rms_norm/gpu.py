"""Mosaic kernels for GPUs of Hopper: a row is read once, forward and backward.

Backward nothing but the rows and the scale is needed: with the whole row at
hand the root mean square costs no traffic, and its sum is taken together with
the other one. The gradient of the scale is one partial sum per CTA, which XLA
adds up: without atomics, so that the same rows give the same bits.
"""

import functools
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import Array, lax

from kernels_pallas import residual as residual_lib
from kernels_pallas import tiles, warpgroup

# Backward, each CTA leaves a row of partial sums.
_CTAS_WITH_SUMS = 2

_Results = tuple[Array, Array | None]


def rms_norm(
  x: Array,
  scale: Array | None = None,
  residual: Array | None = None,
  eps: float = 1e-6,
  *,
  interpret: Any = None,
) -> residual_lib.Results:
  """See `kernels_pallas.rms_norm.rms_norm`.

  `interpret`, of `plgpu.InterpretGPUParams`, runs it anywhere.
  """
  return residual_lib.by_rows(
    lambda x_bd, residual_bd: _rms_norm(
      x_bd, residual_bd, scale, eps, interpret
    ),
    x,
    residual,
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _rms_norm(
  x_bd: Array,
  residual_bd: Array | None,
  scale_d: Array | None,
  eps: float,
  interpret: Any,
) -> tuple[Array, Array | None]:
  """y, and with a residual what was normalised."""
  rows, width = x_bd.shape
  tile = tiles.gpu(
    rows,
    width,
    x_bd.dtype,
    arrays=1 + (residual_bd is not None),
    vectors=int(scale_d is not None),
    kernel="rms_norm/mosaic_gpu forward",
  )

  def body(x_ref, residual_ref, scale_ref, y_ref, h_ref):
    scale = warpgroup.vector(scale_ref, tile)

    def fetch(row):
      return warpgroup.load_rows(tile, row, x_ref, residual_ref)

    def compute(row, fetched, _):
      h_d = warpgroup.total(fetched, h_ref, row)
      y_d = h_d * lax.rsqrt(jnp.sum(h_d * h_d) / width + eps)
      y_ref[row] = warpgroup.scaled(y_d, scale).astype(y_ref.dtype)

    warpgroup.over_rows(tile, rows, fetch, compute)

  out = jax.ShapeDtypeStruct(x_bd.shape, x_bd.dtype)
  return warpgroup.launch(
    body,
    "rms_norm_forward",
    tile,
    (out, None if residual_bd is None else out),
    x_bd,
    residual_bd,
    scale_d,
    interpret=interpret,
  )


def _forward(
  x_bd: Array,
  residual_bd: Array | None,
  scale_d: Array | None,
  eps: float,
  interpret: Any,
):
  y_bd, h_bd = cast(
    _Results, _rms_norm(x_bd, residual_bd, scale_d, eps, interpret)
  )
  return (y_bd, h_bd), (x_bd if h_bd is None else h_bd, scale_d)


def _backward(
  eps: float,
  interpret: Any,
  residuals: tuple[Array, Array | None],
  cotangents: tuple[Array, Array | None],
):
  """With r = 1 / rms(h) and g = dy scale:

      n = h r, dx = r (g - n r mean(g h)) + dh, dscale = sum over rows of dy n

  The mean is that of the row.
  """
  h_bd, scale_d = residuals
  dy_bd, dh_bd = cotangents
  rows, width = h_bd.shape
  count = int(scale_d is not None)
  tile = tiles.gpu(
    rows,
    width,
    h_bd.dtype,
    arrays=2 + (dh_bd is not None),
    vectors=2 * count,
    per_multiprocessor=_CTAS_WITH_SUMS,
    ahead=True,
    kernel="rms_norm/mosaic_gpu backward",
  )

  def body(h_ref, scale_ref, dy_ref, dh_ref, dx_ref, dscale_ref, *scratch):
    scale = warpgroup.vector(scale_ref, tile)
    early_ref, late_ref = (None, dh_ref) if tile.wide else (dh_ref, None)
    sums = warpgroup.RowSums(tile, width, scratch)

    def fetch(row):
      return warpgroup.load_rows(tile, row, h_ref, dy_ref, early_ref)

    def compute(row, fetched, carry):
      h_d, dy_d, *dh_d = (value.astype(jnp.float32) for value in fetched)
      r = lax.rsqrt(jnp.sum(h_d * h_d) / width + eps)
      along = r * (jnp.sum(warpgroup.scaled(dy_d, scale) * h_d) / width)
      normalized_d = h_d * r
      # First, so that dy is needed no longer than its product with the scale.
      if scale is not None:
        carry = sums.add(carry, dy_d * normalized_d)
      dx_d = (warpgroup.scaled(dy_d, scale) - normalized_d * along) * r
      dx_d = sum([*dh_d, *warpgroup.load_rows(tile, row, late_ref)], dx_d)
      dx_ref[row] = dx_d.astype(dx_ref.dtype)
      return carry

    carry = warpgroup.over_rows(tile, rows, fetch, compute, sums.start(count))
    if scale is not None:
      sums.finish(carry, (dscale_ref,))

  dx_bd, dscale_cd = warpgroup.launch(
    body,
    "rms_norm_backward",
    tile,
    (
      jax.ShapeDtypeStruct(h_bd.shape, h_bd.dtype),
      jax.ShapeDtypeStruct((tile.ctas, width), jnp.float32) if count else None,
    ),
    h_bd,
    scale_d,
    dy_bd,
    dh_bd,
    scratch=warpgroup.RowSums.scratch(tile, width, count),
    interpret=interpret,
  )
  dscale_d = None
  if scale_d is not None:
    dscale_d = jnp.sum(dscale_cd, axis=0).astype(scale_d.dtype)
  return dx_bd, None if dh_bd is None else dx_bd, dscale_d


_rms_norm.defvjp(_forward, _backward)
