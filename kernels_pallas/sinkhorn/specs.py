"""What the op is tried on."""

import math

import jax
import jax.numpy as jnp

from kernels_pallas.specs import ArgumentSpec


def _spec(shape: tuple[int, ...], dtype=jnp.float32) -> ArgumentSpec:
  x = jax.ShapeDtypeStruct(shape, dtype)
  return ArgumentSpec(
    name=f"{'x'.join(map(str, shape))}_{jnp.dtype(dtype).name}",
    shapes=(x,),
    # Its largest entry, five rounds, and the result.
    ideal_bytes=8 * math.prod(shape) * x.dtype.itemsize,
  )


SPECS = (
  _spec((1, 4096, 4096)),
  _spec((24, 512, 1368)),
  _spec((1, 2048, 5504), jnp.bfloat16),
)
