"""A buffer of examples by reservoir sampling: Vitter 1985, algorithm R.

After n examples each of them is in a buffer of c with the probability c / n,
whatever their order. Pure functions; the buffer is a tree of arrays. The rule
is that of github.com/lvyilin/AdaB2N (MIT licence).
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from normjax import errors
from normjax.types import Array


class Buffer(NamedTuple):
  """The examples that are kept.

  Attributes:
    rows: arrays (capacity, …) by name.
    num_seen: examples that came by, a scalar; the first min(num_seen, capacity)
      rows are filled.
  """

  rows: Mapping[str, Array]
  num_seen: Array


def empty(capacity: int, example: Mapping[str, jax.ShapeDtypeStruct]) -> Buffer:
  """A buffer without examples.

  Args:
    capacity: rows.
    example: shape and dtype of one example, by name.
  """
  rows = {
    name: jnp.zeros((capacity, *one.shape), one.dtype)
    for name, one in example.items()
  }
  return Buffer(rows, jnp.zeros((), jnp.int32))


def places(key: Array, num_seen: Array, count: int, capacity: int) -> Array:
  """Where the next examples go, (count,); -1 for nowhere.

  The n-th example, counted from 0, goes to row n while there is room; then to
  r, uniform in 0 to n, where r is a row.

  Args:
    key: of the draws.
    num_seen: examples before these.
    count: how many they are.
    capacity: rows.
  """
  number = num_seen + jnp.arange(count)
  drawn = jax.random.randint(key, (count,), 0, number + 1)
  row = jnp.where(number < capacity, number, drawn)
  return jnp.where(row < capacity, row, -1)


def add(buffer: Buffer, key: Array, examples: Mapping[str, Array]) -> Buffer:
  """The buffer after these examples, one after the other.

  Of two that go to one row the later stays.

  Args:
    buffer: see `empty`.
    key: of the draws.
    examples: arrays (count, …), by the names of the buffer.
  """
  capacity = _capacity(buffer)
  count = next(iter(examples.values())).shape[0]
  row = places(key, buffer.num_seen, count, capacity)
  order = jnp.arange(count)
  again = (row[:, None] == row) & (order[:, None] < order)
  # A row that there is not is dropped.
  row = jnp.where((row < 0) | jnp.any(again, axis=1), capacity, row)
  rows = {
    name: held.at[row].set(examples[name].astype(held.dtype), mode="drop")
    for name, held in buffer.rows.items()
  }
  return Buffer(rows, buffer.num_seen + count)


def draw(buffer: Buffer, key: Array, size: int) -> dict[str, Array]:
  """`size` different rows at random.

  Args:
    buffer: has that many filled rows; where it has fewer, which only its owner
      can know, rows of zeros come.
    key: of the draw.
    size: <= capacity.

  Raises:
    UserError: more rows than the buffer can have.
  """
  capacity = _capacity(buffer)
  if size > capacity:
    raise errors.UserError(
      f"a buffer of {capacity} examples gives no {size} different ones; lower"
      " replay_size or raise buffer_size."
    )
  score = jax.random.uniform(key, (capacity,))
  filled = jnp.arange(capacity) < buffer.num_seen
  _, chosen = jax.lax.top_k(jnp.where(filled, score, -1), size)
  return {name: held[chosen] for name, held in buffer.rows.items()}


def _capacity(buffer: Buffer) -> int:
  return next(iter(buffer.rows.values())).shape[0]
