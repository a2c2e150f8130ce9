"""The reference: plain operations, differentiated by jax."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array, lax

from kernels_pallas.precision import promote


def seednorm(
  x: Array,
  alpha: Array,
  beta: Array,
  scale: Array,
  eps: float = 1e-6,
  divisor: float = 1.0,
  num_heads: int = 1,
  *,
  keep: Callable[[Array], Array] = lambda statistic: statistic,
) -> Array:
  """See `kernels_pallas.seednorm.seednorm`.

  `keep` is given the two statistics of each row, for who wants them kept.
  """
  # Widened once: a second cast would round the gradient of x twice.
  wide = promote(x)
  alpha, beta, scale = (v.astype(wide.dtype) for v in (alpha, beta, scale))
  square = keep(jnp.mean(jnp.square(wide), axis=-1, keepdims=True))
  # A sum of products: a matrix product may be rounded to bfloat16.
  heads = (*x.shape[:-1], num_heads, x.shape[-1] // num_heads)
  dot = jnp.sum((wide * beta).reshape(heads), axis=-1, keepdims=True)
  dot = keep(dot)
  dynamic = jnp.broadcast_to(jnp.tanh(dot / divisor), heads).reshape(x.shape)
  y = (dynamic * alpha + scale) * (wide * lax.rsqrt(square + eps))
  return y.astype(x.dtype)
