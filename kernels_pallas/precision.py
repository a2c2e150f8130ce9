"""The dtype that ops accumulate in."""

import jax.numpy as jnp
from jax import Array


def promote(x: Array) -> Array:
  """Casts x to float32, or float64 for float64."""
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))
