"""The reference: plain operations, differentiated by jax."""

from jax import Array, lax

from kernels_pallas import moments
from kernels_pallas.precision import promote


def center_and_reciprocal(wide: Array, eps: float) -> tuple[Array, Array]:
  """mean(x) and 1 / sqrt(var(x) + eps) of each row of a promoted x, (…, 1)."""
  center, variance = moments.mean_and_variance(wide, (wide.ndim - 1,))
  return center, lax.rsqrt(variance + eps)


def affine(normalized: Array, scale: Array | None, bias: Array | None) -> Array:
  """Applies those that there are, in the dtype of `normalized`."""
  if scale is not None:
    normalized = normalized * scale.astype(normalized.dtype)
  if bias is not None:
    normalized = normalized + bias.astype(normalized.dtype)
  return normalized


def layer_norm(
  x: Array, scale: Array | None, bias: Array | None, eps: float
) -> Array:
  """See `kernels_pallas.layer_norm.layer_norm`."""
  # Widened once: a second cast would round the gradient of x twice.
  wide = promote(x)
  center, r = center_and_reciprocal(wide, eps)
  return affine((wide - center) * r, scale, bias).astype(x.dtype)
