"""Ranks among 15 thresholds, entries of 16 values, two codes per byte.

All three are elementwise, in few operations: they decide what a step with 4-bit
moments takes. Nothing here rounds, so that each form gives the same bits.
"""

import jax.numpy as jnp
import numpy as np
from jax import lax

from kernels_pallas import codes
from normjax.types import Array

_HALF = 4  # Bits of a code.


def rank(y: Array, thresholds: np.ndarray) -> Array:
  """How many of at most 15 ascending thresholds y reaches, int32.

  By bisection, of which every step is a compare of its own: 4 compares and 11
  selects among constants in place of 15 compares and 15 sums.

  Args:
    y: float32, below infinity.
    thresholds: float32, shape=(at most 15,).
  """
  missing = 15 - len(thresholds)
  row = [*map(np.float32, thresholds), *[np.float32(np.inf)] * missing]
  found = jnp.zeros(y.shape, jnp.int32)
  reached: list[Array] = []
  for half in (8, 4, 2, 1):
    # The middles of the 8 / half parts in which y may be.
    middle = _choose(row[half - 1 :: 2 * half], reached[::-1])
    reached.append(y >= middle)
    found = found + jnp.where(reached[-1], half, 0)
  return found


def take(table: np.ndarray, index: Array, form: str) -> Array:
  """Entries of at most 16 values.

  Args:
    table: float32, shape=(at most 16,).
    index: integers within it.
    form: "table" gathers, which a CPU has for nothing; "arithmetic" selects by
      the bits of the index, since an accelerator gathers one by one.
  """
  if form == "table":
    return codes.take(table, index)
  row = [*table, *[table[-1]] * (16 - len(table))]
  bits = [(index & (1 << n)) != 0 for n in range(_HALF)]
  return jnp.asarray(_choose(row, bits))


def pack(index: Array, form: str) -> Array:
  """Two codes per byte of the last axis, the first in the high half.

  Args:
    index: integers below 16, with an even last axis.
    form: "table" writes the codes one per byte before: a CPU would else find
      each by itself, in a loop that has no vectors, and a GPU find them from
      floats that it has kept.
  """
  index = index.astype(jnp.uint8)
  if form == "table":
    index = lax.optimization_barrier(index)
  pairs = index.reshape(*index.shape[:-1], index.shape[-1] // 2, 2)
  return (pairs[..., 0] << _HALF) | pairs[..., 1]


def unpack(packed: Array) -> Array:
  """The codes, int32, with twice the last axis."""
  pairs = jnp.broadcast_to(packed[..., None], (*packed.shape, 2))
  pairs = (pairs >> jnp.array([_HALF, 0], jnp.uint8)) & 0xF
  shape = *packed.shape[:-1], 2 * packed.shape[-1]
  return pairs.reshape(shape).astype(jnp.int32)


def _choose(row: list[np.float32], bits: list[Array]) -> Array | np.float32:
  """The entry of a row of 2^n with these bits, the lowest first."""
  entries: list[Array | np.float32] = list(row)
  for bit in bits:
    pairs = zip(entries[::2], entries[1::2], strict=True)
    entries = [jnp.where(bit, high, low) for low, high in pairs]
  (found,) = entries
  return found
