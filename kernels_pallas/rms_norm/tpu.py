"""Pallas kernels for TPU: x is read once forward, x and dy once backward.

Nothing but x and the scale is kept for the backward pass: its kernel has the
whole row at hand, so that the root mean square costs no traffic, whereas one
float32 a row would be padded to 128 lanes in memory.
"""

import functools
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import Array

from kernels_pallas import residual as residual_lib
from kernels_pallas import row_blocks
from kernels_pallas.rms_norm import ref

_Results = tuple[Array, Array | None]


def rms_norm(
  x: Array,
  scale: Array | None = None,
  residual: Array | None = None,
  eps: float = 1e-6,
  *,
  interpret: Any = False,
) -> residual_lib.Results:
  """See `kernels_pallas.rms_norm.rms_norm`; `interpret` runs it anywhere."""
  width = x.shape[-1]
  if scale is None:
    scale = jnp.ones((width,), jnp.float32)
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
  scale_d: Array,
  eps: float,
  interpret: Any,
) -> tuple[Array, Array | None]:
  """y, and with a residual what was normalised."""
  read = [x_bd] if residual_bd is None else [x_bd, residual_bd]

  def body(arrays, vectors):
    h = residual_lib.total(arrays, x_bd.dtype)
    y = ref.rms_norm(h, vectors[0], eps)
    return [y, h][: len(read)], []

  results, _ = row_blocks.launch(
    body,
    "rms_norm_forward",
    read,
    [scale_d],
    arrays=len(read),
    interpret=interpret,
  )
  return results[0], None if residual_bd is None else results[1]


def _forward(
  x_bd: Array,
  residual_bd: Array | None,
  scale_d: Array,
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
  residuals: tuple[Array, Array],
  cotangents: tuple[Array, Array | None],
):
  """See `xla`; the gradient of what was normalised is added to dx."""
  h_bd, scale_d = residuals
  dy_bd, dh_bd = cotangents

  def body(arrays, vectors):
    (h, dy, *dh), (scale,) = arrays, vectors
    r = ref.reciprocal_rms(h, eps)
    normalized, g = h * r, dy * scale
    along = jnp.mean(g * normalized, axis=-1, keepdims=True)
    dx = sum(dh, (g - normalized * along) * r)
    return [dx], [dy * normalized]

  (dx_bd,), (dscale_d,) = row_blocks.launch(
    body,
    "rms_norm_backward",
    [h_bd, dy_bd] if dh_bd is None else [h_bd, dy_bd, dh_bd],
    [scale_d],
    arrays=1,
    sums=1,
    interpret=interpret,
  )
  dresidual_bd = None if dh_bd is None else dx_bd
  return dx_bd, dresidual_bd, dscale_d.astype(scale_d.dtype)


_rms_norm.defvjp(_forward, _backward)
