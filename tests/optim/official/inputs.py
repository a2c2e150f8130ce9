"""Weights and gradients that any NumPy makes alike, in PyTorch's layout.

They come from integers and single roundings, so that a recording need not
hold them. Only NumPy is imported: `record.py` runs where normjax is not.
"""

import hashlib

import numpy as np

STEPS = 12
LEAVES = {
  "wide": (10, 6),
  "tall": (6, 10),
  "square": (8, 8),
  "conv": (4, 3, 2, 3),
  "token": (7, 6),
  "bias": (10,),
}
# Of 8-bit states: more than 4096 entries, the last block not full.
LARGE = {"large": (64, 65)}
# Of torchao's: 4096 entries in whole blocks.
PACKED = {"packed": (64, 64)}
_SHAPES = LEAVES | LARGE | PACKED


def _uniform(seed, shape):
  """In [0, 1), by SplitMix64 (Steele, Lea and Flood 2014)."""
  with np.errstate(over="ignore"):
    index = np.arange(1, np.prod(shape) + 1, dtype=np.uint64)
    z = np.uint64(seed) * np.uint64(0x632BE59BD9B4E019)
    z = z + index * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
  return ((z >> np.uint64(11)) * 2.0**-53).reshape(shape)


def _bell(seed, shape):
  """Mean 0, standard deviation 1: the sum of four uniform numbers."""
  four = _uniform(seed, (4, *shape))
  # In this order: NumPy may order a sum as it likes.
  total = four[0] + four[1] + four[2] + four[3] - 2.0
  return (1.7320508075688772 * total).astype(np.float32)


def _seed(kind, name, step=0):
  if name in PACKED:
    return 10_001 + kind + 2 * step
  names = [*LEAVES, *LARGE]
  return 1 + kind + 2 * (names.index(name) + len(names) * step)


def start(name):
  """The leaf before the first step, float32."""
  return _bell(_seed(0, name), _SHAPES[name])


def gradient(name, step):
  """The gradient of a step (1, 2, …), float32, over several magnitudes."""
  g = _bell(_seed(1, name, step), _SHAPES[name])
  magnitude = np.exp2(-(np.arange(g.shape[0]) % 4)).astype(np.float32)
  return g * magnitude.reshape(-1, *[1] * (g.ndim - 1))


def turning_gradient(name, step):
  """For AdamP: by turns free, and tangent to the start's rows, and to it all.

  Tangent is (b, -a) to (a, b), exactly, whatever the factor.
  """
  kind = ("free", "rows", "whole")[step % 3]
  w = start(name)
  if w.ndim == 1 or kind == "free":
    return gradient(name, step)
  flat = w.reshape(len(w), -1)
  if kind == "whole":
    flat = flat.T
  pairs = flat[:, : flat.shape[1] // 2 * 2].reshape(len(flat), -1, 2)
  factor = 0.5 + _uniform(_seed(1, name, step), pairs.shape[:2])
  turned = np.stack([pairs[..., 1], -pairs[..., 0]], axis=-1)
  turned = turned * factor.astype(np.float32)[..., None]
  g = np.zeros_like(flat)
  g[:, : turned.shape[1] * 2] = turned.reshape(len(flat), -1)
  return (g.T if kind == "whole" else g).reshape(w.shape)


def digest(gradients, names):
  """A checksum of all that a recording was made of."""
  checksum = hashlib.sha256()
  for name in names:
    checksum.update(start(name).tobytes())
    for step in range(1, STEPS + 1):
      checksum.update(np.ascontiguousarray(gradients(name, step)).tobytes())
  return checksum.hexdigest()
