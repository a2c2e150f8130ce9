"""Weights and images that every machine draws alike, from a name and a shape.

The recorder and the tests draw the same ones, so that a recording holds names,
shapes and logits alone.
"""

import hashlib
import zlib

import numpy as np


def uniform(name, shape):
  """In [-1, 1), float64: splitmix64 of the element's number and the name."""
  start = np.uint64(zlib.crc32(name.encode()) << 32)
  with np.errstate(over="ignore"):
    z = start + np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64)
    z = z * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
  return (z >> np.uint64(11)).astype(np.float64).reshape(shape) / 2**52 - 1


def tensor(name, shape):
  """A trained-looking tensor, float32: kernels of variance 1 / fan in."""
  if name.endswith("num_batches_tracked"):
    return np.zeros(shape, np.int64)
  return np.asarray(_spread(name, shape, uniform(name, shape)), np.float32)


def _spread(name, shape, u):
  if name.endswith("running_var"):
    return 1 + 0.5 * u
  vector = len(shape) == 1 and name.endswith("weight")
  if vector or name.endswith(("gain", "gamma")):
    return 1 + 0.3 * u
  if len(shape) > 1 and name.endswith("weight"):
    return u * np.sqrt(3 / np.prod(shape[1:]))
  return 0.3 * u


def images(shape):
  """(b, y, x, c), float32."""
  return np.float32(1.5 * uniform("images", shape))


def digest(tensors):
  """Of names and shapes."""
  lines = sorted(f"{name} {list(shape)}" for name, shape in tensors.items())
  return hashlib.sha256("\n".join(lines).encode()).hexdigest()
