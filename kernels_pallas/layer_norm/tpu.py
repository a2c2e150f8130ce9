"""Pallas kernels for TPU: x is read once forward, x and dy once backward.

Nothing but x and the parameters is kept for the backward pass: its kernel has
the whole row at hand, so that mean and variance cost no traffic, whereas one
float32 a row would be padded to 128 lanes in memory.
"""

import functools
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import Array

from kernels_pallas import residual as residual_lib
from kernels_pallas import row_blocks
from kernels_pallas.layer_norm import ref
from kernels_pallas.layer_norm import rows as rows_lib

_Results = tuple[Array, Array | None]


def layer_norm(
  x: Array,
  scale: Array | None = None,
  bias: Array | None = None,
  residual: Array | None = None,
  eps: float = 1e-6,
  *,
  interpret: Any = False,
) -> residual_lib.Results:
  """See `kernels_pallas.layer_norm.layer_norm`.

  `interpret` runs it anywhere.
  """
  width = x.shape[-1]
  if scale is None:
    scale = jnp.ones((width,), jnp.float32)
  if bias is None:
    bias = jnp.zeros((width,), jnp.float32)
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
  scale_d: Array,
  bias_d: Array,
  eps: float,
  interpret: Any,
) -> tuple[Array, Array | None]:
  """y, and with a residual what was normalised."""
  read = [x_bd] if residual_bd is None else [x_bd, residual_bd]

  def body(arrays, vectors):
    h = residual_lib.total(arrays, x_bd.dtype)
    center, r = rows_lib.center_and_reciprocal(h, eps, row_blocks.row_sum)
    y = ref.affine((h - center) * r, *vectors)
    return [y, h][: len(read)], []

  results, _ = row_blocks.launch(
    body,
    "layer_norm_forward",
    read,
    [scale_d, bias_d],
    arrays=len(read),
    interpret=interpret,
  )
  return results[0], None if residual_bd is None else results[1]


def _forward(
  x_bd: Array,
  residual_bd: Array | None,
  scale_d: Array,
  bias_d: Array,
  eps: float,
  interpret: Any,
):
  y_bd, h_bd = cast(
    _Results, _layer_norm(x_bd, residual_bd, scale_d, bias_d, eps, interpret)
  )
  return (y_bd, h_bd), (x_bd if h_bd is None else h_bd, scale_d, bias_d)


def _backward(
  eps: float,
  interpret: Any,
  residuals: tuple[Array, Array, Array],
  cotangents: tuple[Array, Array | None],
):
  """See `xla`; the gradient of what was normalised is added to dx."""
  h_bd, scale_d, bias_d = residuals
  dy_bd, dh_bd = cotangents

  def body(arrays, vectors):
    (h, dy, *dh), (scale,) = arrays, vectors
    center, r = rows_lib.center_and_reciprocal(h, eps, row_blocks.row_sum)
    normalized = (h - center) * r
    g = dy * scale
    means = rows_lib.gradient_means(normalized, g, row_blocks.row_sum)
    dx = rows_lib.gradient(normalized, g, r, means)
    return [sum(dh, dx)], [dy * normalized, dy]

  (dx_bd,), (dscale_d, dbias_d) = row_blocks.launch(
    body,
    "layer_norm_backward",
    [h_bd, dy_bd] if dh_bd is None else [h_bd, dy_bd, dh_bd],
    [scale_d],
    arrays=1,
    sums=2,
    interpret=interpret,
  )
  return (
    dx_bd,
    None if dh_bd is None else dx_bd,
    dscale_d.astype(scale_d.dtype),
    dbias_d.astype(bias_d.dtype),
  )


_layer_norm.defvjp(_forward, _backward)
