"""The prediction-balanced memory of NOTE: Gong et al. 2022, arXiv:2208.05117.

Official code: github.com/TaesikGong/NOTE, utils/memory.py, PBRS (MIT).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from normjax.similarity import matrices
from normjax.types import Array


class Memory(NamedTuple):
  """Examples by the class that they were predicted to be.

  Attributes:
    examples: (capacity, …).
    labels: (capacity,) int32; -1 where there is none yet.
    times: (capacity,) int32: when each came.
    seen: (classes,) int32: how many of each class were predicted so far.
  """

  examples: Array
  labels: Array
  times: Array
  seen: Array


def empty(
  capacity: int, num_classes: int, shape: tuple[int, ...], dtype: jnp.dtype
) -> Memory:
  """A memory without examples."""
  return Memory(
    jnp.zeros((capacity, *shape), dtype),
    jnp.full(capacity, -1, jnp.int32),
    jnp.zeros(capacity, jnp.int32),
    jnp.zeros(num_classes, jnp.int32),
  )


def add_all(
  memory: Memory, examples: Array, labels: Array, draws: Array
) -> Memory:
  """`add`, one after the other.

  Args:
    memory: before.
    examples: (b, …).
    labels: (b,).
    draws: (b, 3).
  """
  # A scan takes one example after the other from every device.
  each = [
    matrices.uncut(x, 0) for x in (examples, labels.astype(jnp.int32), draws)
  ]
  return lax.scan(
    lambda memory, each: (add(memory, *each), None), memory, tuple(each)
  )[0]


def add(memory: Memory, example: Array, label: Array, draws: Array) -> Memory:
  """Takes an example in, where there is room or chance makes some.

  Once the memory is full, an example of a class that is not among the largest
  takes the place of one of a largest class; one of a largest class takes the
  place of one of its own with the probability kept / seen of that class, as in
  a reservoir, and else is dropped.

  Args:
    memory: before.
    example: as the memory's.
    label: its predicted class.
    draws: (3,) in [0, 1): of the class that gives way, of the place in it, and
      of whether an example of a largest class is kept.
  """
  classes = jnp.arange(memory.seen.size)
  seen = memory.seen.at[label].add(1)
  kept = jnp.sum(memory.labels[:, None] == classes, axis=0, dtype=jnp.int32)
  is_largest = kept == jnp.max(kept)
  own = is_largest[label]
  # The class that gives way: the n-th of the largest, or its own.
  chosen = _floor(draws[0], jnp.sum(is_largest))
  nth = jnp.cumsum(is_largest) - 1
  giving = jnp.argmax(is_largest & (nth == chosen))
  giving = jnp.where(own, label, giving)
  # Its n-th example, the oldest first.
  is_member = memory.labels == giving
  late = jnp.iinfo(jnp.int32).max
  by_age = jnp.argsort(jnp.where(is_member, memory.times, late))
  victim = by_age[_floor(draws[1], kept[giving])]
  is_kept = ~own | (draws[2] <= kept[label] / seen[label])
  held = jnp.sum(kept)
  has_room = held < memory.labels.size
  place = jnp.where(has_room, held, victim)
  # Beyond the end is nowhere.
  place = jnp.where(has_room | is_kept, place, memory.labels.size)
  return Memory(
    memory.examples.at[place].set(
      example.astype(memory.examples.dtype), mode="drop"
    ),
    memory.labels.at[place].set(label, mode="drop"),
    memory.times.at[place].set(jnp.sum(seen, dtype=jnp.int32), mode="drop"),
    seen,
  )


def draw(key: Array, count: int) -> Array:
  """The draws of so many examples, (count, 3)."""
  return jax.random.uniform(key, (count, 3))


def _floor(draw: Array, count: Array) -> Array:
  return jnp.floor(draw * count).astype(jnp.int32)
