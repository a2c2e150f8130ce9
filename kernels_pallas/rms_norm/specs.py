"""What the op is tried on."""

import jax
import jax.numpy as jnp

from kernels_pallas import contract


def _shapes(rows, dtype):
  return (
    jax.ShapeDtypeStruct(rows, dtype),
    jax.ShapeDtypeStruct(rows[-1:], jnp.float32),
  )


CONTRACT = contract.row_contract(_shapes, differentiated=(0, 1), eps=1e-5)
