"""The reference's operations with a backward pass of our own.

What is kept for it is x in its own dtype, the scale and one number per row.
Autodiff keeps the normalised x in float32 as well, which shows wherever XLA
cannot fuse across: in the carry of a scan over layers.
"""

import functools

import jax
import jax.numpy as jnp
from jax import Array

from kernels_pallas.precision import promote
from kernels_pallas.rms_norm import ref

_Residuals = tuple[Array, Array | None, Array]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def rms_norm(x: Array, scale: Array | None, eps: float) -> Array:
  """See `kernels_pallas.rms_norm.rms_norm`."""
  return ref.rms_norm(x, scale, eps)


def _forward(
  x: Array, scale: Array | None, eps: float
) -> tuple[Array, _Residuals]:
  wide = promote(x)
  r = ref.reciprocal_rms(wide, eps)
  return ref.scaled(wide * r, scale).astype(x.dtype), (x, scale, r)


def _backward(
  eps: float, residuals: _Residuals, dy: Array
) -> tuple[Array, Array | None]:
  """With n = x r and g = dy scale: dx = r (g - n mean(g n)), dscale = sum dy n.

  The sum over rows is in float32, as all else.
  """
  del eps
  x, scale, r = residuals
  normalized = x.astype(r.dtype) * r
  dy = dy.astype(r.dtype)
  g = dy if scale is None else dy * scale.astype(r.dtype)
  along = jnp.mean(g * normalized, axis=-1, keepdims=True)
  dx = ((g - normalized * along) * r).astype(x.dtype)
  if scale is None:
    return dx, None
  rows = tuple(range(x.ndim - 1))
  return dx, jnp.sum(dy * normalized, axis=rows).astype(scale.dtype)


rms_norm.defvjp(_forward, _backward)
