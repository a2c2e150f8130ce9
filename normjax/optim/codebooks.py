"""Codes of 4 bits and of FP8: values relative to the largest of a block.

`dynamic4` with signs and `linear4` are the maps of torchao's 4-bit states,
`e4m3` is its FP8 state (pytorch/ao, torchao/optim, BSD-3-Clause, held against
its code; the 4-bit maps come from arXiv:2309.01507). `nf4`, the unsigned
`dynamic4`, its form without zero and the rounding are those of
arXiv:2610.12444 (nubank/adamw4bit, Apache-2.0, held against its code).
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from kernels_pallas import codes
from kernels_pallas.codes import Quantized
from normjax.optim import four_bits
from normjax.types import Array

_FP8 = jnp.float8_e4m3fn
_FP8_MAX = float(jnp.finfo(_FP8).max)  # 448
_MAGNITUDE = 0x7FFFFFFF  # Of float32: all but the sign.


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
  form: str = "table",
  again: Array | None = None,
) -> Quantized:
  """Codes and scales; `blockwise.quantize_blockwise` says of what kind.

  `form` is one of `kernels_pallas.codes.FORMS`: the codes are the same.
  """
  x = x.astype(jnp.float32)
  if form == "table":
    x = lax.optimization_barrier(x)  # As in `kernels_pallas.codes`.
  bits, magnitude = codes.magnitudes(x, signed, block_layout)
  scaled = magnitude
  if again is not None:
    again = again.astype(jnp.float32)
    _, scaled = codes.magnitudes(again, signed, block_layout)
  largest = codes.largest(scaled, block_size)
  largest = lax.bitcast_convert_type(largest, jnp.float32)
  absmax = largest / _FP8_MAX if code == E4M3 else largest
  scale = jnp.where(absmax == 0, 1, absmax)
  scale = codes.spread(scale, bits.shape, block_size)
  size = lax.bitcast_convert_type(magnitude, jnp.float32)
  if code == E4M3:
    # A scale that has no full precision may be too small, and e4m3 has no
    # infinity: what is beyond its largest number would be NaN.
    y = _with_sign(jnp.minimum(size / scale, _FP8_MAX), bits, signed)
    found = lax.bitcast_convert_type(y.astype(_FP8), jnp.uint8)
    return Quantized(found.reshape(x.shape), absmax)
  # As in `kernels_pallas.codes`: no product with a rounded 1 / scale.
  y = _with_sign(size / lax.max(scale, size), bits, signed)
  table = values(code, signed)
  index = _round(y, scale, table, rounding, form)
  if rounding.calibrated:
    rounded = four_bits.take(table, index, form)
    absmax = absmax * _calibration(y, rounded, block_size)
  # Where x is computed twice, it would else be kept after all, to pack it.
  packing = form if again is None else "table"
  return Quantized(four_bits.pack(index.reshape(x.shape), packing), absmax)


def dequantize(
  quantized: Quantized,
  block_size: int,
  signed: bool,
  block_layout: str,
  code: str,
  form: str = "table",
) -> Array:
  """The array, float32."""
  if code == E4M3:
    found = lax.bitcast_convert_type(quantized.codes, _FP8).astype(jnp.float32)
  else:
    index = four_bits.unpack(quantized.codes)
    found = four_bits.take(values(code, signed), index, form)
  flat = codes.lay_out(found, block_layout)
  scale = codes.spread(quantized.absmax, flat.shape, block_size)
  return (flat * scale).reshape(found.shape)


def _with_sign(size: Array, bits: Array, signed: bool) -> Array:
  """The magnitude with the sign of these bits."""
  if not signed:
    return size
  found = lax.bitcast_convert_type(size, jnp.int32) | (bits & ~_MAGNITUDE)
  return lax.bitcast_convert_type(found, jnp.float32)


def _round(
  y: Array, scale: Array, table: np.ndarray, rounding: Rounding, form: str
) -> Array:
  """Indices of the map, int32."""
  if rounding.uniform is None:
    return four_bits.rank(y, _thresholds(table))
  lower = four_bits.rank(y, table[1:-1])

  def space(y):
    if rounding.correction is None:
      return y
    return 1 / (jnp.sqrt(y * scale / rounding.correction) + rounding.eps)

  low, high = (space(four_bits.take(table, lower + n, form)) for n in (0, 1))
  # That of the lower: beside 0 it is small, and 1 minus it is rounded.
  is_low = (space(y) - high) / (low - high)
  uniform = rounding.uniform.reshape(y.shape)
  return lower + (uniform >= jnp.clip(is_low, 0, 1))


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


def _calibration(y: Array, rounded: Array, block_size: int) -> Array:
  """<y, y> / <y, q> of each block, 1 where that is none."""
  square, product = (
    jnp.sum(_blocks(y * other, block_size), axis=-1) for other in (y, rounded)
  )
  is_good = product > 1e-12
  return jnp.where(is_good, square / jnp.where(is_good, product, 1), 1)


def _blocks(x: Array, block_size: int) -> Array:
  """(…, blocks, entries); the last block is filled up with zeros."""
  count, size = codes.count_blocks(x.shape[-1], block_size)
  missing = count * size - x.shape[-1]
  if missing:
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)])
  return x.reshape(*x.shape[:-1], count, size)
