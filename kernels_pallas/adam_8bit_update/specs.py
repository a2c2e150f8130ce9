"""What the op is tried on."""

import jax
import jax.numpy as jnp

from kernels_pallas.adam_8bit_update import ref
from kernels_pallas.adam_8bit_update.api import scale_shape
from kernels_pallas.specs import ArgumentSpec


def _spec(shape: tuple[int, ...], dtype=jnp.float32) -> ArgumentSpec:
  w = jax.ShapeDtypeStruct(shape, dtype)
  codes = jax.ShapeDtypeStruct(shape, jnp.uint8)
  absmax = jax.ShapeDtypeStruct(scale_shape(shape, ref.Blocks()), jnp.float32)
  scalars = jax.ShapeDtypeStruct((len(ref.Scalars._fields),), jnp.float32)
  return ArgumentSpec(
    name=f"{'x'.join(map(str, shape))}_{jnp.dtype(dtype).name}",
    shapes=(w, w, codes, absmax, codes, absmax, scalars),
    # The gradient is read, all else is read and written.
    ideal_bytes=w.size * (3 * w.dtype.itemsize + 4) + 16 * absmax.size,
    donated=(0, 2, 3, 4, 5),
  )


SPECS = (
  _spec((4096, 4096)),
  _spec((512, 1368)),
  _spec((2048, 5504), jnp.bfloat16),
)
