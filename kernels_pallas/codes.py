"""8-bit block-wise dynamic codes: Dettmers et al., arXiv:2110.02861.

The map, the rounding and the sign repair are those of bitsandbytes. Codes are
found and read in two forms. "table" gathers, and is exact; a CPU has it for
nothing. "arithmetic" has a closed form of the map: no gather, which a kernel
has not and a TPU does one by one. Its values are within 2 units in the last
place of the map's, and it rounds as the table does but where an entry lies
within 3 of them of a midpoint.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from kernels_pallas import dispatch


class Quantized(NamedTuple):
  """An array as `quantize` stores it, or trees of them."""

  # The shape of the array, uint8: indices of `dynamic_map`.
  codes: Any
  # Largest magnitude of each block, float32; None or a masked node beside what
  # is stored as it is.
  absmax: Any


FORMS = ("table", "arithmetic")
ZERO = 127  # The code of 0, with signs.

_DECADES = 7
# The lookup splits a float32 into a cell (exponent, 7 bits of the mantissa)
# and the 16 bits below. Below 2^-23 every magnitude is nearest to 0.
_BELOW = 16
_WITHIN = (1 << _BELOW) - 1
_LEAST = int(np.float32(2.0**-23).view(np.int32))
_ONE = int(np.float32(1.0).view(np.int32))
_INFINITY = 0x7F800000
_MAGNITUDE = 0x7FFFFFFF
_EXPONENT = -(1 << 23)  # A mask: sign and exponent.


def form(target: dispatch.Target) -> str:
  """Which of `FORMS` pays there."""
  return "table" if target.platform == "cpu" else "arithmetic"


def _boundaries(bins: int) -> np.ndarray:
  """The edges of equal bins from 0.1 to 1, rounded as torch.linspace does.

  That goes from both ends to the middle and rounds once an edge.
  """
  first, last = np.float32(0.1), np.float32(1.0)
  step = float((last - first) / np.float32(bins))
  i = np.arange(bins + 1)
  up, down = float(first) + step * i, float(last) - step * (bins - i)
  return np.where(i < (bins + 1) // 2, up, down).astype(np.float32)


@functools.cache
def dynamic_map(signed: bool = True) -> np.ndarray:
  """The 256 values between -1 and 1 that a code stands for, ascending.

  Each decade from 10^(i-7) to 10^(i-6), i = 0..6, is cut into 2^i equal bins
  (2^(i+1) without signs), whose midpoints are values; then 0 and 1. With signs,
  -1 is not a value: the least is -0.99297, and 0 has the code 127.

  Args:
    signed: whether there are negative values.

  Returns:
    shape=(256,), float32, equal to bitsandbytes' to the last bit.
  """
  decades = []
  for i in range(_DECADES):
    edges = _boundaries(2**i if signed else 2 ** (i + 1))
    middle = (edges[:-1] + edges[1:]) / np.float32(2)
    decades.append(np.float32(10.0 ** (i - _DECADES + 1)) * middle)
  positive = np.concatenate(decades)
  negative = -positive[::-1] if signed else positive[:0]
  return np.concatenate([negative, [0], positive, [1]]).astype(np.float32)


@functools.cache
def _cells(signed: bool) -> np.ndarray:
  """For each cell of magnitudes: the code at its start, and its midpoint.

  A cell holds one midpoint between two values at most. With c the number of
  midpoints below the cell and t the low bits of the one inside, the entry is
  (c << 16) + 0xFFFF - t, so that adding low bits beyond t carries into c: the
  nearest value, ties down, without a comparison.
  """
  values = dynamic_map(signed)
  values = values[values >= 0]
  midpoints = ((values[1:] + values[:-1]) * np.float32(0.5)).view(np.int32)
  starts = np.arange(_LEAST, _ONE + 1, 1 << _BELOW)
  below = np.searchsorted(midpoints, starts)
  following = np.append(midpoints, _INFINITY)[below] - starts
  carry = _WITHIN - np.minimum(following, _WITHIN)
  return ((below << _BELOW) + carry).astype(np.int32)


def finite(x: Array) -> Array:
  """x, and 0 where it is NaN or infinite."""
  # Mosaic has no `is_finite`.
  return jnp.where(jnp.abs(x) < jnp.inf, x, 0)


def relative(x: Array, absmax: Array, signed: bool, sign_repair: bool) -> Array:
  """The arithmetic codes, int32, of finite entries of blocks of this absmax."""
  y = jnp.abs(x)
  found = rank(y / jnp.maximum(jnp.where(absmax == 0, 1, absmax), y), signed)
  if not signed:
    return found
  negative = lax.bitcast_convert_type(x, jnp.int32) < 0
  return with_sign(found, negative, sign_repair)


def of_block(x: Array, signed: bool, sign_repair: bool) -> tuple[Array, Array]:
  """Codes, int32, and absmax (rows, 1) of rows that are a block each."""
  x = finite(x)
  absmax = jnp.max(jnp.abs(x), axis=1, keepdims=True)
  return relative(x, absmax, signed, sign_repair), absmax


def take(table: np.ndarray, index: Array) -> Array:
  """Entries of a table, by a gather."""
  return jnp.asarray(table).at[index].get(mode="promise_in_bounds")


def _nearest(bits: Array, signed: bool) -> Array:
  """How many midpoints lie below a magnitude in [0, 1], given as its bits."""
  offset = jnp.clip(bits, _LEAST, _ONE) - _LEAST
  entry = take(_cells(signed), offset >> _BELOW)
  return (entry + (offset & _WITHIN)) >> _BELOW


def _bins(signed: bool) -> int:
  """Into how many bins the first decade is cut; the next has twice as many."""
  return 1 if signed else 2


@functools.cache
def _thresholds(signed: bool) -> tuple[float, ...]:
  """The midpoints at which the decades begin, and that before 1."""
  values = dynamic_map(signed)
  values = values[values >= 0]
  first = [_bins(signed) * (2**i - 1) + 1 for i in range(_DECADES + 1)]
  return tuple(
    float((values[n] + values[n - 1]) * np.float32(0.5)) for n in first
  )


def rank(y: Array, signed: bool) -> Array:
  """How many midpoints lie below a magnitude in [0, 1]; in closed form.

  Decade i has n = 2^i bins (2^(i+1) without signs), whose edges are midpoints:
  10^(i-6) (n + 9 j) / (10 n) for j = 0..n.
  """
  first, *inner, last = _thresholds(signed)
  bins = _bins(signed)
  count = jnp.full_like(y, bins)
  scale = jnp.full_like(y, 1e7 * bins)  # 10 n / 10^(i-6)
  for i, threshold in enumerate(inner, start=1):
    above = y > threshold
    count = jnp.where(above, float(bins * 2**i), count)
    scale = jnp.where(above, float(bins * 1e7 / 5**i), scale)
  edge = ((y * scale - count) * np.float32(1 / 9)).astype(jnp.int32)
  edge = jnp.clip(edge.astype(jnp.float32), 0.0, count - 1)
  found = count + edge - (bins - 1)
  found = jnp.where(y > first, found, 0.0)
  found = jnp.where(y > last, 128.0 if signed else 255.0, found)
  return found.astype(jnp.int32)


def value(codes: Array, signed: bool) -> Array:
  """What codes stand for, from int32; `dynamic_map` in closed form.

  The j-th value of decade i is 10^(i-6) (2 n + 18 j + 9) / (20 n). Only the
  last of its roundings is not of whole numbers, so that no fused multiply-add
  changes it.
  """
  bins = _bins(signed)
  place = jnp.abs(codes - ZERO) if signed else codes + (bins - 1)
  wide = place.astype(jnp.float32)
  # The largest power of two below: n.
  bits = lax.bitcast_convert_type(wide, jnp.int32) & _EXPONENT
  count = lax.bitcast_convert_type(bits, jnp.float32)
  scale = jnp.full_like(wide, 5e-8 / bins)  # 10^(i-6) / (20 n)
  for i in range(1, _DECADES):
    scale = jnp.where(wide >= bins * 2.0**i, 5e-8 / bins * 5**i, scale)
  found = (18 * wide - 16 * count + 9) * scale
  found = jnp.where(place == (0 if signed else bins - 1), 0.0, found)
  found = jnp.where(place == (128 if signed else 255 + bins - 1), 1.0, found)
  return jnp.where(codes < ZERO, -found, found) if signed else found


def with_sign(found: Array, negative: Array, sign_repair: bool) -> Array:
  """The signed code of a magnitude's rank; -1 has none."""
  low = jnp.clip(found, 1 if sign_repair else 0, ZERO)
  return jnp.where(negative, ZERO - low, ZERO + found)


def count_blocks(size: int, block_size: int) -> tuple[int, int]:
  """How many blocks an axis has, and their size."""
  size_b = max(1, min(block_size, size))
  return math.ceil(size / size_b), size_b


def largest(x: Array, block_size: int) -> Array:
  """The maximum of each block of the last axis, of non-negative integers.

  In two steps of 16 entries, which XLA's CPU compiler does in one loop; it
  would copy a longer axis first.
  """
  count, size = count_blocks(x.shape[-1], block_size)
  inner = math.gcd(size, 16)
  missing = count * size - x.shape[-1]
  if missing:
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)])
  x = x.reshape(*x.shape[:-1], count, size // inner, inner)
  return jnp.max(x, axis=(-2, -1), initial=0)


def spread(absmax: Array, shape: tuple[int, ...], block_size: int) -> Array:
  """The entry of its block for every entry of an array of this shape."""
  count, size = count_blocks(shape[-1], block_size)
  x = jnp.broadcast_to(absmax[..., None], (*absmax.shape, size))
  return x.reshape(*shape[:-1], count * size)[..., : shape[-1]]


def lay_out(x: Array, block_layout: str) -> Array:
  """Moves the blocks to the last axis."""
  return x.reshape(-1) if block_layout == "flat" or x.ndim == 0 else x


def magnitudes(
  x: Array, signed: bool, block_layout: str
) -> tuple[Array, Array]:
  """The bits of float32 entries, and those of what is stored, without signs.

  Of integers a CPU finds the largest faster, and they have no NaN.
  """
  bits = lay_out(lax.bitcast_convert_type(x, jnp.int32), block_layout)
  magnitude = bits & _MAGNITUDE
  magnitude = jnp.where(magnitude < _INFINITY, magnitude, 0)
  if not signed:
    magnitude = jnp.where(bits < 0, 0, magnitude)
  return bits, magnitude


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4, 5), inline=True)
def quantize(
  x: Array,
  block_size: int,
  signed: bool,
  block_layout: str,
  sign_repair: bool,
  form: str,
) -> Quantized:
  """Codes and scales; arguments as those of `normjax.optim`'s, and a form.

  NaN and infinite entries are stored as 0 and do not count in absmax; without
  signs so are negative ones.
  """
  x = x.astype(jnp.float32)
  if form == "table":
    # Else a CPU computes x anew for the scale and for the codes, which an
    # accelerator does faster than it writes x.
    x = lax.optimization_barrier(x)
  bits, magnitude = magnitudes(x, signed, block_layout)
  absmax = largest(magnitude, block_size)
  absmax = lax.bitcast_convert_type(absmax, jnp.float32)
  scale = spread(jnp.where(absmax == 0, 1, absmax), bits.shape, block_size)
  y = lax.bitcast_convert_type(magnitude, jnp.float32)
  # The maximum is the scale, but XLA does not know: it would multiply by a
  # rounded 1 / scale, which is another y, and 0 beyond 8e37.
  y = y / lax.max(scale, y)
  if form == "table":
    found = lax.bitcast_convert_type(y, jnp.int32)
    # Ties go to the lower code, for negative y to the larger magnitude.
    found = _nearest(found + (bits < 0) if signed else found, signed)
  else:
    found = rank(y, signed)
  code = with_sign(found, bits < 0, sign_repair) if signed else found
  return Quantized(code.astype(jnp.uint8).reshape(x.shape), absmax)


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4), inline=True)
def dequantize(
  quantized: Quantized,
  block_size: int,
  signed: bool,
  block_layout: str,
  form: str,
) -> Array:
  """map[code] * absmax, float32, in the shape of the codes."""
  codes = lay_out(quantized.codes, block_layout)
  absmax = spread(quantized.absmax, codes.shape, block_size)
  if form == "table":
    values = take(dynamic_map(signed), codes)
  else:
    values = value(codes.astype(jnp.int32), signed)
  return (values * absmax).reshape(quantized.codes.shape)
