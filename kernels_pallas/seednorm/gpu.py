"""Mosaic kernels for GPUs of Hopper: a row is read once, forward and backward.

The row's reciprocal root mean square and tanh are kept for the backward pass, 8
bytes per row, so that it sums twice over a row where it would sum four times.
The gradients of the vectors are one partial sum each per CTA, which XLA adds
up: without atomics, so that the same rows give the same bits.
"""

import functools
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import Array, lax

from kernels_pallas import tiles, warpgroup

# Backward, each CTA leaves three rows of partial sums: with two CTAs they would
# be a tenth of the bytes.
_CTAS_WITH_SUMS = 1

_Residuals = tuple[Array, Array, Array, Array, Array, Array]
_Vector = Callable[[], Array]


def seednorm(
  x: Array,
  alpha: Array,
  beta: Array,
  scale: Array,
  eps: float = 1e-6,
  divisor: float = 1.0,
  num_heads: int = 1,
  *,
  interpret: Any = None,
) -> Array:
  """See `kernels_pallas.seednorm.seednorm`.

  `interpret`, of `plgpu.InterpretGPUParams`, runs it anywhere.
  """
  del num_heads  # One: `supports` of the op.
  x_bd = x.reshape(-1, x.shape[-1])
  y_bd = _seednorm(x_bd, alpha, beta, scale, eps, divisor, interpret)
  return cast(Array, y_bd).reshape(x.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def _seednorm(
  x_bd: Array,
  alpha_d: Array,
  beta_d: Array,
  scale_d: Array,
  eps: float,
  divisor: float,
  interpret: Any,
) -> Array:
  return _run_forward(
    x_bd, alpha_d, beta_d, scale_d, eps, divisor, interpret, keep=False
  )[0]


def _forward(
  x_bd: Array,
  alpha_d: Array,
  beta_d: Array,
  scale_d: Array,
  eps: float,
  divisor: float,
  interpret: Any,
) -> tuple[Array, _Residuals]:
  y_bd, r_b, dynamic_b = _run_forward(
    x_bd, alpha_d, beta_d, scale_d, eps, divisor, interpret, keep=True
  )
  return y_bd, (x_bd, alpha_d, beta_d, scale_d, r_b, dynamic_b)


def _run_forward(
  x_bd, alpha_d, beta_d, scale_d, eps, divisor, interpret, *, keep: bool
):
  """y, and where they are kept the rows' reciprocals and tanhs."""
  rows, width = x_bd.shape
  tile = tiles.gpu(
    rows,
    width,
    x_bd.dtype,
    arrays=1,
    vectors=3,
    kernel="seednorm/mosaic_gpu forward",
  )

  def body(x_ref, alpha_ref, beta_ref, scale_ref, y_ref, r_ref, dynamic_ref):
    alpha, beta, scale = (
      cast(_Vector, warpgroup.vector(ref, tile))
      for ref in (alpha_ref, beta_ref, scale_ref)
    )

    def fetch(row):
      return warpgroup.load(x_ref.at[row], tile)

    def compute(row, x_d, _):
      x_d = x_d.astype(jnp.float32)
      r = lax.rsqrt(jnp.sum(x_d * x_d) / width + eps)
      dynamic = jnp.tanh(jnp.sum(x_d * beta()) / divisor)
      if keep:
        r_ref[row] = r
        dynamic_ref[row] = dynamic
      y_d = (alpha() * dynamic + scale()) * (x_d * r)
      y_ref[row] = y_d.astype(y_ref.dtype)

    warpgroup.over_rows(tile, rows, fetch, compute)

  number = jax.ShapeDtypeStruct((rows,), jnp.float32) if keep else None
  return warpgroup.launch(
    body,
    "seednorm_forward",
    tile,
    (jax.ShapeDtypeStruct(x_bd.shape, x_bd.dtype), number, number),
    x_bd,
    alpha_d,
    beta_d,
    scale_d,
    interpret=interpret,
  )


def _backward(
  eps: float,
  divisor: float,
  interpret: Any,
  residuals: _Residuals,
  dy_bd: Array,
):
  """With n = x r, t = tanh(x . beta / divisor) and g = dy (t alpha + scale):

      dz = sum(dy n alpha) (1 - t^2) / divisor
      dx = r (g - n mean(g n)) + dz beta
      dalpha = sum dy n t, dbeta = sum dz x, dscale = sum dy n

  Mean and the first sum are those of a row, the last three over the rows.
  """
  del eps
  x_bd, alpha_d, beta_d, scale_d, r_b, dynamic_b = residuals
  rows, width = x_bd.shape
  tile = tiles.gpu(
    rows,
    width,
    x_bd.dtype,
    arrays=2,
    vectors=6,
    per_multiprocessor=_CTAS_WITH_SUMS,
    ahead=True,
    kernel="seednorm/mosaic_gpu backward",
  )

  def body(
    x_ref,
    alpha_ref,
    beta_ref,
    scale_ref,
    r_ref,
    dynamic_ref,
    dy_ref,
    dx_ref,
    sums_ref,
    *refs,
  ):
    alpha, beta, scale = (
      cast(_Vector, warpgroup.vector(ref, tile))
      for ref in (alpha_ref, beta_ref, scale_ref)
    )
    sums = warpgroup.RowSums(tile, width, refs)

    def fetch(row):
      loaded = warpgroup.load_rows(tile, row, x_ref, dy_ref)
      return loaded, r_ref[row], dynamic_ref[row]

    def compute(row, fetched, carry):
      loaded, r, dynamic = fetched

      def array(n, ref):
        value = warpgroup.load(ref.at[row], tile) if tile.wide else loaded[n]
        return value.astype(jnp.float32)

      x_d, dy_d = (value.astype(jnp.float32) for value in loaded)
      product_d = dy_d * (x_d * r)
      of_alpha = jnp.sum(product_d * alpha())
      of_scale = jnp.sum(product_d * scale())
      along = (dynamic * of_alpha + of_scale) / width
      dz = of_alpha * (1 - dynamic * dynamic) / divisor
      # First, so that the product is needed no longer.
      carry = sums.add(
        carry,
        lambda: product_d * dynamic,
        lambda: product_d,
        lambda: array(0, x_ref) * dz,
      )
      dx_d = array(1, dy_ref) * (alpha() * dynamic + scale()) * r
      dx_d += beta() * dz - array(0, x_ref) * (r * r * along)
      dx_ref[row] = dx_d.astype(dx_ref.dtype)
      return carry

    carry = warpgroup.over_rows(tile, rows, fetch, compute, sums.start(3))
    sums.finish(carry, sums_ref)

  partial = jax.ShapeDtypeStruct((tile.ctas, width), jnp.float32)
  dx_bd, partials = warpgroup.launch(
    body,
    "seednorm_backward",
    tile,
    (jax.ShapeDtypeStruct(x_bd.shape, x_bd.dtype), (partial,) * 3),
    x_bd,
    alpha_d,
    beta_d,
    scale_d,
    r_b,
    dynamic_b,
    dy_bd,
    scratch=warpgroup.RowSums.scratch(tile, width, 3),
    interpret=interpret,
  )
  vectors = (alpha_d, scale_d, beta_d)
  dalpha_d, dscale_d, dbeta_d = (
    jnp.sum(partial_cd, axis=0).astype(vector_d.dtype)
    for partial_cd, vector_d in zip(partials, vectors, strict=True)
  )
  return dx_bd, dalpha_d, dbeta_d, dscale_d


_seednorm.defvjp(_forward, _backward)
