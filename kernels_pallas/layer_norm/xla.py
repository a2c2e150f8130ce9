"""The reference's operations with a backward pass of our own.

What is kept for it is x in its own dtype, the parameters and two numbers per
row. Autodiff keeps the normalised x in float32 as well.
"""

import functools

import jax
import jax.numpy as jnp
from jax import Array

from kernels_pallas.layer_norm import ref
from kernels_pallas.precision import promote

_Residuals = tuple[Array, Array | None, Array | None, Array, Array]


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def layer_norm(
  x: Array, scale: Array | None, bias: Array | None, eps: float
) -> Array:
  """See `kernels_pallas.layer_norm.layer_norm`."""
  return ref.layer_norm(x, scale, bias, eps)


def _forward(
  x: Array, scale: Array | None, bias: Array | None, eps: float
) -> tuple[Array, _Residuals]:
  wide = promote(x)
  center, r = ref.center_and_reciprocal(wide, eps)
  y = ref.affine((wide - center) * r, scale, bias).astype(x.dtype)
  return y, (x, scale, bias, center, r)


def _backward(
  eps: float, residuals: _Residuals, dy: Array
) -> tuple[Array, Array | None, Array | None]:
  """With n = (x - center) r and g = dy scale:

      dx = r (g - mean(g) - n mean(g n)), dscale = sum dy n, dbias = sum dy

  The sums over rows are in float32, as all else.
  """
  del eps
  x, scale, bias, center, r = residuals
  normalized = (x.astype(r.dtype) - center) * r
  dy = dy.astype(r.dtype)
  g = dy if scale is None else dy * scale.astype(r.dtype)
  along = jnp.mean(g * normalized, axis=-1, keepdims=True)
  g = g - jnp.mean(g, axis=-1, keepdims=True)
  dx = ((g - normalized * along) * r).astype(x.dtype)
  rows = tuple(range(x.ndim - 1))
  dscale = None
  if scale is not None:
    dscale = jnp.sum(dy * normalized, axis=rows).astype(scale.dtype)
  dbias = None if bias is None else jnp.sum(dy, axis=rows).astype(bias.dtype)
  return dx, dscale, dbias


layer_norm.defvjp(_forward, _backward)
