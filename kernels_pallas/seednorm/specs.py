"""What the op is tried on, and what its benchmark runs."""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from kernels_pallas import contract
from kernels_pallas.specs import ArgumentSpec

_DIFFERENTIATED = (0, 1, 2, 3)
_ROWS = 8192


def _shapes(rows, dtype):
  vector = jax.ShapeDtypeStruct(rows[-1:], jnp.float32)
  return jax.ShapeDtypeStruct(rows, dtype), vector, vector, vector


def _spec(width: int, dtype: DTypeLike) -> ArgumentSpec:
  shapes = _shapes((_ROWS, width), dtype)
  x_bytes = _ROWS * width * jnp.dtype(dtype).itemsize
  return ArgumentSpec(
    name=f"{_ROWS} x {width} {jnp.dtype(dtype).name}",
    shapes=shapes,
    ideal_bytes=2 * x_bytes + 12 * width,
    options={"eps": 1e-6, "divisor": 1.0},
    differentiated=_DIFFERENTIATED,
    # Of the vectors, which are read, the gradients are written.
    ideal_backward_bytes=3 * x_bytes + 24 * width,
  )


# A divisor that keeps tanh of narrow rows away from where it is 1.
CONTRACT = contract.row_contract(
  _shapes, differentiated=_DIFFERENTIATED, eps=1e-5, divisor=64.0
)
SPECS = (
  *(_spec(width, jnp.bfloat16) for width in (512, 1024, 4096, 8192)),
  _spec(4096, jnp.float32),
)
