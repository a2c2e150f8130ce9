"""Random matrices of the methods that project at random."""

import zlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from normjax.types import Array


def normal(
  path: str,
  shape: Sequence[int],
  number: ArrayLike = 0,
  *,
  seed: int | Array = 0,
) -> Array:
  """Standard normal entries for a leaf.

  They depend on nothing but the arguments: on no other leaf, device or dtype.

  Args:
    path: of the leaf.
    shape: of the result.
    number: how many draws for this leaf come before, integer.
    seed: of the optimizer.

  Returns:
    float32.
  """
  key = jax.random.key(seed, impl="threefry2x32")
  key = jax.random.fold_in(key, zlib.crc32(path.encode()))
  key = jax.random.fold_in(key, number)
  return jax.random.normal(key, shape, jnp.float32)
