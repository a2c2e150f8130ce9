"""The reference: plain operations, differentiated by jax."""

import jax.numpy as jnp
from jax import Array, lax

from kernels_pallas.precision import promote


def reciprocal_rms(wide: Array, eps: float) -> Array:
  """1 / sqrt(mean(x^2) + eps) of each row of a promoted x, (..., 1)."""
  return lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + eps)


def scaled(normalized: Array, scale: Array | None) -> Array:
  """Applies the scale, if there is one, in the dtype of `normalized`."""
  return (
    normalized if scale is None else normalized * scale.astype(normalized.dtype)
  )


def rms_norm(x: Array, scale: Array | None, eps: float) -> Array:
  """See `kernels_pallas.rms_norm.rms_norm`."""
  # Widened once: a second cast would round the gradient of x twice.
  wide = promote(x)
  return scaled(wide * reciprocal_rms(wide, eps), scale).astype(x.dtype)
