"""Named random streams: every key is a pure function of (seed, name, step)."""

import zlib

import jax

from normjax.types import Array


def fold(
  seed: int | Array, name: str, step: int | Array | None = None
) -> Array:
  """The key of stream `name` at `step`.

  Args:
    seed: the run's seed, a Python int or a traced int32/uint32 scalar, so
      that a compiled program serves every seed.
    name: the stream ("init", "dropout", …); streams are independent.
    step: folded in where given.

  Returns:
    A typed PRNG key.
  """
  key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
  return key if step is None else jax.random.fold_in(key, step)


def host_seed(seed: int, name: str) -> int:
  """A 31-bit seed of stream `name` for libraries that draw on the host."""
  return zlib.crc32(f"{seed}/{name}".encode()) & 0x7FFFFFFF
