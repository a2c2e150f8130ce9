"""As `xla`, with the statistics of the rows block by block: for CPUs.

The two arrays of the size of x that are written are y and dx.
"""

import functools
from typing import cast

import jax
import jax.numpy as jnp
from jax import Array, lax

from kernels_pallas import blocks
from kernels_pallas.layer_norm import ref
from kernels_pallas.precision import promote

_Residuals = tuple[Array, Array | None, Array | None, Array, Array]


def layer_norm(
  x: Array, scale: Array | None, bias: Array | None, eps: float
) -> Array:
  """See `kernels_pallas.layer_norm.layer_norm`."""
  y_bd = _layer_norm(x.reshape(-1, x.shape[-1]), scale, bias, eps)
  return cast(Array, y_bd).reshape(x.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _layer_norm(
  x_bd: Array, scale_d: Array | None, bias_d: Array | None, eps: float
) -> Array:
  return _forward(x_bd, scale_d, bias_d, eps)[0]


def _forward(
  x_bd: Array, scale_d: Array | None, bias_d: Array | None, eps: float
) -> tuple[Array, _Residuals]:
  def body(carry, x_rd):
    return carry, ref.center_and_reciprocal(promote(x_rd), eps)

  # Unless barred, XLA fuses a statistic with its broadcast and writes that.
  center_b1, r_b1 = lax.optimization_barrier(blocks.scan(body, (), x_bd)[1])
  y_bd = ref.affine((promote(x_bd) - center_b1) * r_b1, scale_d, bias_d)
  return y_bd.astype(x_bd.dtype), (x_bd, scale_d, bias_d, center_b1, r_b1)


def _backward(
  eps: float, residuals: _Residuals, dy_bd: Array
) -> tuple[Array, Array | None, Array | None]:
  """See `xla`."""
  del eps
  # Barred, for else what the forward pass has computed is kept instead.
  x_bd, scale_d, bias_d, center_b1, r_b1 = lax.optimization_barrier(residuals)
  dtype, width = r_b1.dtype, x_bd.shape[-1]
  gain_d = jnp.ones(width, dtype) if scale_d is None else scale_d.astype(dtype)

  def body(carry, x_rd, dy_rd, center_r1, r_r1):
    dscale_d, dbias_d = carry
    wide_rd = dy_rd.astype(dtype)
    normalized_rd = (x_rd.astype(dtype) - center_r1) * r_r1
    product_rd = lax.optimization_barrier(wide_rd * normalized_rd)
    dscale_d += jnp.sum(product_rd, axis=0)
    dbias_d += jnp.sum(wide_rd, axis=0)
    # As products with a vector: a broadcast gain would be written.
    return (dscale_d, dbias_d), (product_rd @ gain_d, wide_rd @ gain_d)

  zeros_d = jnp.zeros(width, dtype)
  (dscale_d, dbias_d), sums = blocks.scan(
    body, (zeros_d, zeros_d), x_bd, dy_bd, center_b1, r_b1
  )
  along_b1, mean_b1 = (
    lax.optimization_barrier(sum_b)[:, None] / width for sum_b in sums
  )
  normalized_bd = (x_bd.astype(dtype) - center_b1) * r_b1
  g_bd = dy_bd.astype(dtype) * gain_d
  dx_bd = (g_bd - mean_b1 - normalized_bd * along_b1) * r_b1
  return (
    dx_bd.astype(x_bd.dtype),
    None if scale_d is None else dscale_d.astype(scale_d.dtype),
    None if bias_d is None else dbias_d.astype(bias_d.dtype),
  )


_layer_norm.defvjp(_forward, _backward)
