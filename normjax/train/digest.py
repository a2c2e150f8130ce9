"""A fingerprint of every leaf: 64 bits, computed where the leaf lies.

It tells a checkpoint that came back from disk as it was saved from one that
did not. A leaf of words w_i gets two sums modulo 2^32:

    h_i = mix(w_i xor i g),  lo = sum_i h_i,  hi = sum_i (2 i + 1) h_i

with an odd constant g. Integer addition modulo 2^32 is associative, so it
does not matter which device holds which part, nor which process: of a leaf
that no process holds whole, each sums its parts, and each part counts once.

Whatever changes one word only, such as one flipped bit, changes both sums for
certain: xor with a constant, `mix` and multiplication by the odd 2 i + 1 are
one-to-one modulo 2^32, so exactly one summand of each sum changes. Changes of
several words stay unseen with a chance of about 2^-63; without `mix` two
flipped signs would cancel, 2^31 (2 i + 1) being 2^31 whatever i.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from normjax.train.processes import distributed
from normjax.types import Array, PyTree

# g of the formula; Knuth's choice.
_GOLDEN = 0x9E3779B9
# Words that NumPy takes at a time: they stay in the processor's cache.
_CHUNK_WORDS = 1 << 15


def compute(tree: PyTree) -> dict[str, str]:
  """Fingerprints by path: sixteen hex digits each.

  Leaves on an accelerator are summed there, by a small program per shape: one
  program for a whole tree compiles for as long as the training step. On CPU
  devices NumPy takes the same sums in place, and nothing is compiled.

  Args:
    tree: of arrays of any dtype and shape, JAX's or NumPy's.
  """
  flat = jax.tree_util.tree_flatten_with_path(tree)[0]
  # All are started before the first is waited for.
  started = [_started(leaf) for _, leaf in flat]
  sums = [
    np.sum(parts, axis=0, dtype=np.uint32) if parts else np.zeros(2, np.uint32)
    for parts in jax.device_get(started)
  ]
  if any(_is_spread(leaf) for _, leaf in flat):
    # What this process holds whole, all do: it counts once.
    own = [
      s.tolist() if _is_spread(leaf) or distributed.is_first() else [0, 0]
      for s, (_, leaf) in zip(sums, flat, strict=True)
    ]
    every = np.asarray(distributed.every(own), np.uint32)
    sums = list(np.sum(every, axis=0, dtype=np.uint32))
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): f"{hi:08x}{lo:08x}"
    for (path, _), (lo, hi) in zip(flat, sums, strict=True)
  }


def _is_spread(leaf: Any) -> bool:
  """Whether some of its devices are another process's."""
  return isinstance(leaf, jax.Array) and not leaf.is_fully_addressable


def _started(leaf: Any) -> list[Any]:
  """The sums of the parts that count here; on a device, under way."""
  if not _is_spread(leaf):
    return [on_host(leaf) if _is_on_host(leaf) else _on_device(leaf)]
  shards = (s for s in leaf.addressable_shards if s.replica_id == 0)
  return [_of_part(s.data, s.index, leaf.shape) for s in shards]


def _of_part(
  part: Array, index: tuple[slice, ...], shape: tuple[int, ...]
) -> Any:
  """The sums of a part of a leaf.

  Args:
    part: on a device of this process.
    index: where it stands in the leaf.
    shape: of the leaf.
  """
  words = jax.eval_shape(_words, jax.ShapeDtypeStruct(shape, part.dtype)).shape
  starts = [s.start or 0 for s in index] + [0] * (len(words) - len(index))
  strides = _strides(words)
  first = sum(a * b for a, b in zip(starts, strides, strict=True))
  if _is_on_host(part):
    # Of one axis at least: NumPy warns where a number without one overflows.
    taken = jax.eval_shape(_words, part).shape or (1,)
    return _sums(
      _host_words(part).reshape(taken).astype(np.uint32),
      _places(np.arange, taken, first, strides or [1]),
    )
  low = np.asarray([first, *strides], np.uint64).astype(np.uint32)
  return _part_on_device(part, low)


@jax.jit
def _part_on_device(part: Array, low: Array) -> Array:
  words = _words(part)
  index = _places(jnp.arange, words.shape, low[0], low[1:])
  return _sums(words, index)


def _places(
  arange: Any, shape: tuple[int, ...], first: Any, strides: Any
) -> Any:
  """Where in the leaf each word of a part stands, modulo 2^32."""
  index = arange(1, dtype=np.uint32).reshape([1] * len(shape)) + _low(first)
  for axis, (size, stride) in enumerate(zip(shape, strides, strict=True)):
    along = arange(size, dtype=np.uint32) * _low(stride)
    index = index + along.reshape([-1] + [1] * (len(shape) - axis - 1))
  return index


def _strides(shape: tuple[int, ...]) -> list[int]:
  return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def _low(number: Any) -> Any:
  return np.uint32(number & 0xFFFFFFFF) if isinstance(number, int) else number


def _sums(words: Any, index: Any) -> Any:
  """The two, as NumPy's or as JAX's."""
  xp = np if isinstance(words, np.ndarray) else jnp
  mixed = _mix(words ^ (index * np.uint32(_GOLDEN)))
  weighted = mixed * (2 * index + 1)
  return xp.stack([x.sum(dtype=np.uint32) for x in (mixed, weighted)])


def differing(
  found: Mapping[str, str], expected: Mapping[str, str]
) -> list[str]:
  """The paths whose fingerprints are not the same, or not in both."""
  return sorted(
    path
    for path in found.keys() | expected.keys()
    if found.get(path) != expected.get(path)
  )


def on_device(leaf: Array) -> Array:
  """The sums, traceable: (2,), uint32, which are lo and hi.

  Args:
    leaf: of any dtype and shape, split over devices or not.
  """
  words = _words(leaf)
  # No reshape: it would gather a leaf that is split over devices.
  strides = _strides(words.shape)
  return _sums(words, _places(jnp.arange, words.shape, 0, strides))


_on_device = jax.jit(on_device)


def on_host(leaf: Any) -> np.ndarray:
  """The same sums by NumPy."""
  words = _host_words(leaf)
  lo = hi = 0
  for start in range(0, words.size, _CHUNK_WORDS):
    chunk = words[start : start + _CHUNK_WORDS].astype(np.uint32)
    index = np.arange(start, start + chunk.size).astype(np.uint32)
    mixed = _mix(chunk ^ (index * np.uint32(_GOLDEN)))
    lo += int(mixed.sum(dtype=np.uint32))
    hi += int((mixed * (2 * index + 1)).sum(dtype=np.uint32))
  return np.array([lo & 0xFFFFFFFF, hi & 0xFFFFFFFF], np.uint32)


def _mix(word: Any) -> Any:
  """MurmurHash3's finalizer: one-to-one, and every bit moves all others.

  x xor (x >> k) can be undone bit by bit from above; multiplication by an odd
  number has an inverse modulo 2^32.
  """
  word = (word ^ (word >> 16)) * np.uint32(0x85EBCA6B)
  word = (word ^ (word >> 13)) * np.uint32(0xC2B2AE35)
  return word ^ (word >> 16)


def _is_on_host(leaf: Any) -> bool:
  return not isinstance(leaf, jax.Array) or all(
    device.platform == "cpu" for device in leaf.devices()
  )


def _words(leaf: Array) -> Array:
  """The leaf's bits as uint32, one or more an element."""
  if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    leaf = jax.random.key_data(leaf)
  if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
    leaf = jnp.stack([leaf.real, leaf.imag], axis=-1)
  if leaf.dtype == jnp.bool_:
    return leaf.astype(jnp.uint32)
  if jax.dtypes.itemsize_bits(leaf.dtype) < 8:
    leaf = leaf.astype(jnp.int8)  # Integers of 2 and 4 bits stay apart.
  if leaf.dtype.itemsize < 4:
    unsigned = jnp.uint8 if leaf.dtype.itemsize == 1 else jnp.uint16
    return jax.lax.bitcast_convert_type(leaf, unsigned).astype(jnp.uint32)
  # An element of 64 bits becomes two words, on a new last axis.
  return jax.lax.bitcast_convert_type(leaf, jnp.uint32)


def _host_words(leaf: Any) -> np.ndarray:
  """The same words in a row, not yet widened."""
  if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    leaf = jax.random.key_data(leaf)
  values = np.ascontiguousarray(leaf).reshape(-1)
  if jax.dtypes.itemsize_bits(values.dtype) < 8:
    values = values.astype(np.int8)
  size_bytes = min(values.dtype.itemsize, 4)
  return values.view({1: np.uint8, 2: np.uint16, 4: np.uint32}[size_bytes])
