"""Random numbers of the methods that draw: of a leaf, at a step."""

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
  return jax.random.normal(_key(path, number, seed), shape, jnp.float32)


def uniform(
  path: str,
  shape: Sequence[int],
  number: ArrayLike = 0,
  *,
  seed: int | Array = 0,
) -> Array:
  """Numbers in [0, 1) for a leaf; arguments as of `normal`."""
  return jax.random.uniform(_key(path, number, seed), shape, jnp.float32)


def bits(
  path: str,
  shape: Sequence[int],
  number: ArrayLike = 0,
  *,
  seed: int | Array = 0,
) -> Array:
  """Integers in [0, 2^16) for a leaf, uint16; arguments as of `normal`."""
  return jax.random.bits(_key(path, number, seed), shape, jnp.uint16)


def _key(path: str, number: ArrayLike, seed: int | Array) -> Array:
  key = jax.random.key(seed, impl="threefry2x32")
  key = jax.random.fold_in(key, zlib.crc32(path.encode()))
  return jax.random.fold_in(key, number)
