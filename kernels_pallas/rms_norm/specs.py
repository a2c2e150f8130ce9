"""What the op is tried on, and what its benchmark runs."""

import jax
import jax.numpy as jnp

from kernels_pallas import contract, row_specs


def _shapes(rows, dtype):
  return (
    jax.ShapeDtypeStruct(rows, dtype),
    jax.ShapeDtypeStruct(rows[-1:], jnp.float32),
    None,
  )


CONTRACT = row_specs.with_residual(
  contract.row_contract(_shapes, differentiated=(0, 1), eps=1e-5)
)
SPECS = row_specs.specs(_shapes, differentiated=(0, 1))
