"""As `xla`, with the statistics of the rows block by block: for CPUs.

The two arrays of the size of x that are written are y and dx.
"""

import functools
from typing import cast

import jax
import jax.numpy as jnp
from jax import Array, lax

from kernels_pallas import blocks
from kernels_pallas.precision import promote
from kernels_pallas.rms_norm import ref

_Residuals = tuple[Array, Array | None, Array]


def rms_norm(x: Array, scale: Array | None, eps: float) -> Array:
  """See `kernels_pallas.rms_norm.rms_norm`."""
  y_bd = _rms_norm(x.reshape(-1, x.shape[-1]), scale, eps)
  return cast(Array, y_bd).reshape(x.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _rms_norm(x_bd: Array, scale_d: Array | None, eps: float) -> Array:
  return _forward(x_bd, scale_d, eps)[0]


def _forward(
  x_bd: Array, scale_d: Array | None, eps: float
) -> tuple[Array, _Residuals]:
  def body(carry, x_rd):
    return carry, ref.reciprocal_rms(promote(x_rd), eps)

  # Unless barred, XLA fuses the statistic with its broadcast and writes that.
  r_b1 = lax.optimization_barrier(blocks.scan(body, (), x_bd)[1])
  y_bd = ref.scaled(promote(x_bd) * r_b1, scale_d)
  return y_bd.astype(x_bd.dtype), (x_bd, scale_d, r_b1)


def _backward(
  eps: float, residuals: _Residuals, dy_bd: Array
) -> tuple[Array, Array | None]:
  """See `xla`."""
  del eps
  # Barred, for else what the forward pass has computed is kept instead.
  x_bd, scale_d, r_b1 = lax.optimization_barrier(residuals)
  dtype, width = r_b1.dtype, x_bd.shape[-1]
  gain_d = jnp.ones(width, dtype) if scale_d is None else scale_d.astype(dtype)

  def body(dscale_d, x_rd, dy_rd, r_r1):
    normalized_rd = x_rd.astype(dtype) * r_r1
    product_rd = lax.optimization_barrier(dy_rd.astype(dtype) * normalized_rd)
    # As a product with a vector: a broadcast gain would be written.
    along_r1 = (product_rd @ gain_d)[:, None] / width
    return dscale_d + jnp.sum(product_rd, axis=0), along_r1

  dscale_d, along_b1 = blocks.scan(
    body, jnp.zeros(width, dtype), x_bd, dy_bd, r_b1
  )
  along_b1 = lax.optimization_barrier(along_b1)
  g_bd = dy_bd.astype(dtype) * gain_d
  dx_bd = (g_bd - x_bd.astype(dtype) * r_b1 * along_b1) * r_b1
  return (
    dx_bd.astype(x_bd.dtype),
    None if scale_d is None else dscale_d.astype(scale_d.dtype),
  )


_rms_norm.defvjp(_forward, _backward)
