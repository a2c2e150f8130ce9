"""Pallas kernels for TPU: x is read once forward, x and dy once backward.

Nothing but x and the vectors is kept for the backward pass: its kernel has the
whole row at hand, whereas a float32 per row would be padded to 128 lanes in
memory.
"""

import functools
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import Array, lax

from kernels_pallas import row_blocks

_Residuals = tuple[Array, Array, Array, Array]


def seednorm(
  x: Array,
  alpha: Array,
  beta: Array,
  scale: Array,
  eps: float = 1e-6,
  divisor: float = 1.0,
  num_heads: int = 1,
  *,
  interpret: Any = False,
) -> Array:
  """See `kernels_pallas.seednorm.seednorm`; `interpret` runs it anywhere."""
  del num_heads  # One: `supports` of the op.
  x_bd = x.reshape(-1, x.shape[-1])
  y_bd = _seednorm(x_bd, alpha, beta, scale, eps, divisor, interpret)
  return cast(Array, y_bd).reshape(x.shape)


def _statistics(x, beta, eps: float, divisor: float):
  """The reciprocal root mean square and the tanh of each row, (r, 1)."""
  square = row_blocks.row_sum(x * x) / x.shape[-1]
  dot = row_blocks.row_sum(x * beta)
  return lax.rsqrt(square + eps), jnp.tanh(dot / divisor)


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
  def body(arrays, vectors):
    (x,), (alpha, beta, scale) = arrays, vectors
    r, dynamic = _statistics(x, beta, eps, divisor)
    return [(alpha * dynamic + scale) * (x * r)], []

  (y_bd,), _ = row_blocks.launch(
    body,
    "seednorm_forward",
    [x_bd],
    [alpha_d, beta_d, scale_d],
    arrays=1,
    interpret=interpret,
  )
  return y_bd


def _forward(
  x_bd: Array,
  alpha_d: Array,
  beta_d: Array,
  scale_d: Array,
  eps: float,
  divisor: float,
  interpret: Any,
) -> tuple[Array, _Residuals]:
  y_bd = _seednorm(x_bd, alpha_d, beta_d, scale_d, eps, divisor, interpret)
  return cast(Array, y_bd), (x_bd, alpha_d, beta_d, scale_d)


def _backward(
  eps: float,
  divisor: float,
  interpret: Any,
  residuals: _Residuals,
  dy_bd: Array,
):
  """See `gpu`."""
  x_bd, *vectors = residuals

  def body(arrays, vectors):
    (x, dy), (alpha, beta, scale) = arrays, vectors
    r, dynamic = _statistics(x, beta, eps, divisor)
    product = dy * (x * r)
    of_alpha = row_blocks.row_sum(product * alpha)
    of_scale = row_blocks.row_sum(product * scale)
    along = (dynamic * of_alpha + of_scale) / x.shape[-1]
    dz = of_alpha * (1 - dynamic * dynamic) / divisor
    g = dy * (alpha * dynamic + scale)
    dx = (g - x * (r * along)) * r + beta * dz
    return [dx], [product * dynamic, x * dz, product]

  (dx_bd,), sums = row_blocks.launch(
    body,
    "seednorm_backward",
    [x_bd, dy_bd],
    vectors,
    arrays=1,
    sums=3,
    interpret=interpret,
  )
  return dx_bd, *(
    total.astype(vector.dtype)
    for total, vector in zip(sums, vectors, strict=True)
  )


_seednorm.defvjp(_forward, _backward)
