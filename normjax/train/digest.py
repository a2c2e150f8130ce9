"""A fingerprint of every leaf: 64 bits, computed where the leaf lies.

It tells a checkpoint that came back from disk as it was saved from one that
did not. A leaf of words w_i gets two sums modulo 2^32:

    h_i = mix(w_i xor i g),  lo = sum_i h_i,  hi = sum_i (2 i + 1) h_i

with an odd constant g. Integer addition modulo 2^32 is associative, so it
does not matter which device holds which part.

Whatever changes one word only, such as one flipped bit, changes both sums for
certain: xor with a constant, `mix` and multiplication by the odd 2 i + 1 are
one-to-one modulo 2^32, so exactly one summand of each sum changes. Changes of
several words stay unseen with a chance of about 2^-63; without `mix` two
flipped signs would cancel, 2^31 (2 i + 1) being 2^31 whatever i.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

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
  sums = [
    on_host(leaf) if _is_on_host(leaf) else _on_device(leaf) for _, leaf in flat
  ]
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): f"{hi:08x}{lo:08x}"
    for (path, _), (lo, hi) in zip(flat, jax.device_get(sums), strict=True)
  }


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
  index = jnp.zeros(words.shape, jnp.uint32)
  for axis, size in enumerate(words.shape):
    along = jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
    index = index * np.uint32(size & 0xFFFFFFFF) + along
  mixed = _mix(words ^ (index * np.uint32(_GOLDEN)))
  weighted = mixed * (2 * index + 1)
  return jnp.stack([_sum(mixed), _sum(weighted)])


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


def _sum(words: Array) -> Array:
  axes = tuple(range(words.ndim))
  return jax.lax.reduce(words, np.uint32(0), jax.lax.add, axes)


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
