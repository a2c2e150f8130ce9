"""What the op is tried on."""

import jax
import jax.numpy as jnp

from kernels_pallas import contract


def _shapes(rows, dtype):
  vector = jax.ShapeDtypeStruct(rows[-1:], jnp.float32)
  return jax.ShapeDtypeStruct(rows, dtype), vector, vector


CONTRACT = contract.row_contract(_shapes, differentiated=(0, 1, 2), eps=1e-5)
