"""Codes of 4 bits and of FP8: values relative to the largest of a block.

`dynamic4` with signs and `linear4` are the maps of torchao's 4-bit states,
`e4m3` is its FP8 state (pytorch/ao, torchao/optim, BSD-3-Clause, held against
its code; the 4-bit maps come from arXiv:2309.01507). `nf4`, the unsigned
`dynamic4`, its form without zero and the rounding are those of
arXiv:2610.12444 (nubank/adamw4bit, Apache-2.0, held against its code).
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from kernels_pallas.codes import Quantized
from normjax.types import Array

_FP8 = jnp.float8_e4m3fn
_FP8_MAX = float(jnp.finfo(_FP8).max)  # 448


def _dynamic(signed: bool) -> np.ndarray:
  """`create_dynamic_map` of 4 bits and 3 decades, rounded once."""
  data = [0.0, 1.0]
  for i in range(3):
    edges = np.linspace(0.1, 1, 2**i * (1 if signed else 2) + 1)
    means = 10.0 ** (i - 2) * (edges[:-1] + edges[1:]) / 2
    data += [*means, *(-means if signed else [])]
  return np.sort(data).astype(np.float32)


def _closed() -> np.ndarray:
  """The signed dynamic map with -1 in place of the negative next to 0."""
  values = _dynamic(signed=True)
  return np.concatenate([-values[-1:], values[:6], values[7:]])


# QLoRA's NormalFloat, rounded as nubank/adamw4bit has it.
_NF4 = (
  *(-1.0, -0.6961928, -0.5250731, -0.3949175),
  *(-0.2844414, -0.1847734, -0.0910500, 0.0),
  *(0.0795803, 0.1609302, 0.2461123, 0.3379152),
  *(0.4407098, 0.5626170, 0.7229568, 1.0),
)
# Name -> the ascending values of its signed and of its unsigned map, in units
# of a block's largest magnitude; None where it has no such map.
MAPS: Mapping[str, tuple[np.ndarray | None, np.ndarray | None]] = {
  "dynamic4": (_dynamic(signed=True), _dynamic(signed=False)),
  "dynamic4_closed": (_closed(), None),
  "nf4": (np.array(_NF4, np.float32), None),
  "linear4": (None, np.arange(1, 17, dtype=np.float32) / 16),
  "dynamic4_nonzero": (None, _dynamic(signed=False)[1:]),
}
DYNAMIC8, E4M3 = "dynamic8", "e4m3"
SIGNED = (DYNAMIC8, E4M3, *(n for n, m in MAPS.items() if m[0] is not None))
UNSIGNED = (DYNAMIC8, E4M3, *(n for n, m in MAPS.items() if m[1] is not None))


class Rounding(NamedTuple):
  """How an entry of 4 bits between two values goes to one of them.

  At random it is right on average: of the values themselves, or of

      h(v) = 1 / (sqrt(v / correction) + eps)

  what Adam multiplies by (arXiv:2610.12444): between a <= v <= b, a is taken
  with probability (h(v) - h(b)) / (h(a) - h(b)). What is right on average in v
  is not in h, and beside a zero far from it.

  Attributes:
    uniform: numbers in [0, 1) of the shape of x; None for the nearest value,
      ties up as in torchao.
    correction: 1 - b2^t; None for the values themselves.
    eps: Adam's.
    calibrated: whether the block's scale is then multiplied by <x, x> / <x, q>,
      so that the error is orthogonal to x: EDEN, as in nubank/adamw4bit.
  """

  uniform: Array | None = None
  correction: Array | float | None = None
  eps: Array | float = 0.0
  calibrated: bool = False


NEAREST = Rounding()


def bits(code: str) -> int:
  """Of an entry."""
  return 4 if code in MAPS else 8


def values(code: str, signed: bool) -> np.ndarray:
  """Ascending, float32, in units of the block's largest magnitude."""
  found = MAPS[code][0 if signed else 1]
  assert found is not None
  return found


def packs(shape: tuple[int, ...], code: str) -> bool:
  """Whether a leaf of this shape has whole bytes of this code.

  Two entries of 4 bits share a byte, and no byte two rows: the last axis must
  be even.
  """
  return bits(code) == 8 or (bool(shape) and shape[-1] % 2 == 0)


def quantize(
  x: Array,
  block_size: int,
  signed: bool,
  block_layout: str,
  code: str,
  rounding: Rounding = NEAREST,
) -> Quantized:
  """Codes and scales; `blockwise.quantize_blockwise` says of what form."""
  x = x.astype(jnp.float32)
  x = jnp.where(jnp.abs(x) < jnp.inf, x, 0)
  if not signed:
    x = jnp.maximum(x, 0)
  flat = _lay_out(x, block_layout)
  largest = jnp.max(jnp.abs(_blocks(flat, block_size)), axis=-1, initial=0)
  absmax = largest / _FP8_MAX if code == E4M3 else largest
  scale = _spread(jnp.where(absmax == 0, 1, absmax), flat.shape, block_size)
  if code == E4M3:
    # A scale that has no full precision may be too small, and e4m3 has no
    # infinity: what is beyond its largest number would be NaN.
    y = jnp.clip(flat / scale, -_FP8_MAX, _FP8_MAX)
    found = lax.bitcast_convert_type(y.astype(_FP8), jnp.uint8)
    return Quantized(found.reshape(x.shape), absmax)
  # As in `kernels_pallas.codes`: no product with a rounded 1 / scale.
  y = flat / lax.max(scale, jnp.abs(flat))
  table = values(code, signed)
  index = _round(y, scale, table, rounding, flat.shape)
  if rounding.calibrated:
    absmax = absmax * _calibration(y, _take(table, index), block_size)
  return Quantized(_pack(index.reshape(x.shape)), absmax)


def dequantize(
  quantized: Quantized,
  block_size: int,
  signed: bool,
  block_layout: str,
  code: str,
) -> Array:
  """The array, float32."""
  if code == E4M3:
    found = lax.bitcast_convert_type(quantized.codes, _FP8).astype(jnp.float32)
  else:
    found = _take(values(code, signed), _unpack(quantized.codes))
  flat = _lay_out(found, block_layout)
  scale = _spread(quantized.absmax, flat.shape, block_size)
  return (flat * scale).reshape(found.shape)


def _round(
  y: Array,
  scale: Array,
  table: np.ndarray,
  rounding: Rounding,
  shape: tuple[int, ...],
) -> Array:
  """Indices of the map, int32."""
  if rounding.uniform is None:
    return _rank(y, _thresholds(table))
  lower = _rank(y, table[1:-1])

  def space(y):
    if rounding.correction is None:
      return y
    return 1 / (jnp.sqrt(y * scale / rounding.correction) + rounding.eps)

  low, high = (space(_take(table, lower + n)) for n in (0, 1))
  # That of the lower: beside 0 it is small, and 1 minus it is rounded.
  is_low = (space(y) - high) / (low - high)
  uniform = rounding.uniform.reshape(shape)
  return lower + (uniform >= jnp.clip(is_low, 0, 1))


def _rank(y: Array, thresholds: np.ndarray) -> Array:
  """How many of the thresholds y reaches; in compares, without a gather."""
  found = jnp.zeros(y.shape, jnp.int32)
  for threshold in thresholds:
    found = found + (y >= np.float32(threshold))
  return found


def _thresholds(table: np.ndarray) -> np.ndarray:
  """The least float32 that goes up, between any two values.

  In float32 as torchao decides: y - low >= (high - low) / 2.
  """
  low, high = table[:-1], table[1:]
  half = (high - low) * np.float32(0.5)
  candidates = [low + half]
  for _ in range(4):
    candidates.insert(0, np.nextafter(candidates[0], np.float32(-2)))
    candidates.append(np.nextafter(candidates[-1], np.float32(2)))
  tried = np.stack(candidates)
  first = np.argmax(tried - low >= half, axis=0)
  return np.take_along_axis(tried, first[None], axis=0)[0]


def _take(table: np.ndarray, index: Array) -> Array:
  """Entries of a map, by selects: an accelerator gathers one by one."""
  found = jnp.full(index.shape, table[0])
  for n, value in enumerate(table[1:], start=1):
    found = jnp.where(index >= n, value, found)
  return found


def _calibration(y: Array, rounded: Array, block_size: int) -> Array:
  """<y, y> / <y, q> of each block, 1 where that is none."""
  square, product = (
    jnp.sum(_blocks(y * other, block_size), axis=-1) for other in (y, rounded)
  )
  is_good = product > 1e-12
  return jnp.where(is_good, square / jnp.where(is_good, product, 1), 1)


def _pack(index: Array) -> Array:
  """Two codes per byte of the last axis, the first in the high half."""
  half = index.shape[-1] // 2
  pairs = index.astype(jnp.uint8).reshape(*index.shape[:-1], half, 2)
  return (pairs[..., 0] << 4) | pairs[..., 1]


def _unpack(packed: Array) -> Array:
  pairs = jnp.stack([packed >> 4, packed & 0xF], axis=-1)
  return pairs.reshape(*packed.shape[:-1], 2 * packed.shape[-1]).astype(
    jnp.int32
  )


def _lay_out(x: Array, block_layout: str) -> Array:
  """Moves the blocks to the last axis."""
  return x.reshape(-1) if block_layout == "flat" or x.ndim == 0 else x


def _count(size: int, block_size: int) -> tuple[int, int]:
  """How many blocks an axis has, and their size."""
  size_b = max(1, min(block_size, size))
  return math.ceil(size / size_b), size_b


def _blocks(x: Array, block_size: int) -> Array:
  """(…, blocks, entries); the last block is filled up with zeros."""
  count, size = _count(x.shape[-1], block_size)
  missing = count * size - x.shape[-1]
  if missing:
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)])
  return x.reshape(*x.shape[:-1], count, size)


def _spread(absmax: Array, shape: tuple[int, ...], block_size: int) -> Array:
  """The entry of its block for every entry of an array of this shape."""
  count, size = _count(shape[-1], block_size)
  x = jnp.broadcast_to(absmax[..., None], (*absmax.shape, size))
  return x.reshape(*shape[:-1], count * size)[..., : shape[-1]]
