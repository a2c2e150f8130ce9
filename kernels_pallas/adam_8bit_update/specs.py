"""What the op is tried on, and what it must give."""

import dataclasses

import jax.numpy as jnp

from kernels_pallas.adam_8bit_update import samples
from kernels_pallas.specs import ArgumentSpec

CONTRACT = samples.CONTRACT


def _spec(shape: tuple[int, ...], dtype=jnp.float32) -> ArgumentSpec:
  found = samples.spec(
    f"{'x'.join(map(str, shape))}_{jnp.dtype(dtype).name}",
    samples.shapes(shape, dtype),
  )
  *leaf, _ = found.shapes
  # The gradient is read, all else is read and written.
  sizes = [x.size * x.dtype.itemsize for x in leaf]
  return dataclasses.replace(
    found,
    ideal_bytes=2 * sum(sizes) - sizes[1],
    donated=CONTRACT.donated,
  )


SPECS = (
  _spec((4096, 4096)),
  _spec((512, 1368)),
  _spec((2048, 5504), jnp.bfloat16),
)
