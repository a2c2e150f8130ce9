"""8-bit block-wise dynamic quantisation: Dettmers et al., arXiv:2110.02861.

The map, the rounding and the sign repair are those of bitsandbytes.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec
from jax.typing import DTypeLike

from normjax import validate
from normjax.optim import groups, meshes
from normjax.types import Array, PyTree

__all__ = [
  "Quantized",
  "dequantize_blockwise",
  "dynamic_map",
  "quantize_blockwise",
]

LAYOUTS = ("rows", "flat")

_DECADES = 7
# The lookup splits a float32 into a cell (exponent, 7 bits of the mantissa)
# and the 16 bits below. Below 2^-23 every magnitude is nearest to 0.
_BELOW = 16
_WITHIN = (1 << _BELOW) - 1
_LEAST = int(np.float32(2.0**-23).view(np.int32))
_ONE = int(np.float32(1.0).view(np.int32))
_INFINITY = 0x7F800000
_MAGNITUDE = 0x7FFFFFFF
_ZERO = 127  # The code of 0, with signs.


class Quantized(NamedTuple):
  """An array as `quantize_blockwise` stores it, or a tree of arrays."""

  # The shape of the array, uint8: indices of `dynamic_map`.
  codes: Array | PyTree
  absmax: Array | PyTree  # Largest magnitude of each block, float32.


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


def _take(table: np.ndarray, index: Array) -> Array:
  return jnp.asarray(table).at[index].get(mode="promise_in_bounds")


def _nearest(bits: Array, signed: bool) -> Array:
  """How many midpoints lie below a magnitude in [0, 1], given as its bits."""
  offset = jnp.clip(bits, _LEAST, _ONE) - _LEAST
  entry = _take(_cells(signed), offset >> _BELOW)
  return (entry + (offset & _WITHIN)) >> _BELOW


def check(method: str, block_size: Any, block_layout: Any) -> None:
  """Checks the options of a block, as for `quantize_blockwise`."""
  validate.count(method, "block_size", block_size)
  validate.choice(method, "block_layout", block_layout, LAYOUTS)


def _count(size: int, block_size: int) -> tuple[int, int]:
  """How many blocks an axis has, and their size."""
  size_b = max(1, min(block_size, size))
  return math.ceil(size / size_b), size_b


def _largest(x: Array, block_size: int) -> Array:
  """The maximum of each block of the last axis, of non-negative integers.

  In two steps of 16 entries, which XLA's CPU compiler does in one loop; it
  would copy a longer axis first.
  """
  count, size = _count(x.shape[-1], block_size)
  inner = math.gcd(size, 16)
  missing = count * size - x.shape[-1]
  if missing:
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)])
  x = x.reshape(*x.shape[:-1], count, size // inner, inner)
  return jnp.max(x, axis=(-2, -1), initial=0)


def _spread(absmax: Array, shape: tuple[int, ...], block_size: int) -> Array:
  """The entry of its block for every entry of an array of this shape."""
  count, size = _count(shape[-1], block_size)
  x = jnp.broadcast_to(absmax[..., None], (*absmax.shape, size))
  return x.reshape(*shape[:-1], count * size)[..., : shape[-1]]


def _lay_out(x: Array, block_layout: str) -> Array:
  """Moves the blocks to the last axis."""
  return x.reshape(-1) if block_layout == "flat" or x.ndim == 0 else x


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4), inline=True)
def _quantize(
  x: Array, block_size: int, signed: bool, block_layout: str, sign_repair: bool
) -> Quantized:
  # Else XLA computes x anew for the scale and for the codes.
  x = lax.optimization_barrier(x.astype(jnp.float32))
  bits = _lay_out(lax.bitcast_convert_type(x, jnp.int32), block_layout)
  magnitude = bits & _MAGNITUDE
  magnitude = jnp.where(magnitude < _INFINITY, magnitude, 0)
  if not signed:
    magnitude = jnp.where(bits < 0, 0, magnitude)
  absmax = _largest(magnitude, block_size)
  absmax = lax.bitcast_convert_type(absmax, jnp.float32)
  scale = _spread(jnp.where(absmax == 0, 1, absmax), bits.shape, block_size)
  y = lax.bitcast_convert_type(magnitude, jnp.float32)
  # The maximum is the scale, but XLA does not know: it would multiply by a
  # rounded 1 / scale, which is another y, and 0 beyond 8e37.
  y = y / lax.max(scale, y)
  code = lax.bitcast_convert_type(y, jnp.int32)
  if signed:
    # Ties go to the lower code, for negative y to the larger magnitude.
    code = _nearest(code + (bits < 0), signed)
    # -1 has no code.
    low = jnp.clip(code, 1 if sign_repair else 0, _ZERO)
    code = jnp.where(bits < 0, _ZERO - low, _ZERO + code)
  else:
    code = _nearest(code, signed)
  return Quantized(code.astype(jnp.uint8).reshape(x.shape), absmax)


@functools.partial(jax.jit, static_argnums=(1, 2, 3), inline=True)
def _dequantize(
  quantized: Quantized, block_size: int, signed: bool, block_layout: str
) -> Array:
  codes = _lay_out(quantized.codes, block_layout)
  absmax = _spread(quantized.absmax, codes.shape, block_size)
  values = _take(dynamic_map(signed), codes)
  return (values * absmax).reshape(quantized.codes.shape)


def quantize_blockwise(
  x: Array,
  block_size: int = 256,
  signed: bool = True,
  *,
  block_layout: str = "rows",
  sign_repair: bool = False,
) -> Quantized:
  """Rounds x to 8 bits, relative to the largest magnitude of its block.

      absmax_b = max_i |x_bi|;  code_bi = argmin_c |map_c - x_bi / absmax_b|

  arXiv:2110.02861, section 2.1, in float32. A tie between two values takes the
  lower code, as in bitsandbytes' kernels; the midpoint is rounded to float32.
  The map has no -1: an extreme entry that is negative shrinks to 0.993 of it.

  NaN and infinite entries are stored as 0 and do not count in absmax; without
  signs so are negative ones. A block of zeros has absmax 0.

  Args:
    x: floating-point, of any shape.
    block_size: entries that share an absmax, >= 1.
    signed: which `dynamic_map`.
    block_layout: "rows" cuts the last axis, so that a block never straddles
      two rows and shards of whole blocks are quantised apart; "flat" cuts x
      flattened in C order, as bitsandbytes does. The last block may be short.
    sign_repair: negative entries that round to 0 take the code below, -5.5e-7
      of absmax, as in bitsandbytes' optimizers.

  Returns:
    codes in the shape of x; absmax of shape (..., ceil(last / block_size)) or
    (ceil(size / block_size),).

  Raises:
    UserError: a block size below 1, or another layout.
    TypeError: another type.
  """
  check("quantize_blockwise", block_size, block_layout)
  x = jnp.asarray(x)
  groups.check_leaves("quantize_blockwise", x)

  def quantize(x):
    return _quantize(x, block_size, signed, block_layout, sign_repair)

  # A shard of a row may hold parts of blocks: each device has all scales of it.
  rows = meshes.leaf_spec(x)[:-1] if block_layout == "rows" else ()
  whole_blocks: Any = PartitionSpec(*rows)
  return meshes.automatic(quantize, (x,), like=Quantized(x, whole_blocks))


def dequantize_blockwise(
  quantized: Quantized,
  block_size: int = 256,
  signed: bool = True,
  *,
  block_layout: str = "rows",
  dtype: DTypeLike | None = None,
) -> Array:
  """The array that `quantize_blockwise` stored with the same options.

  Args:
    quantized: codes and absmax.
    block_size: as it was.
    signed: as it was.
    block_layout: as it was.
    dtype: of the result; None takes float32.

  Returns:
    map[code] * absmax, in the shape of the codes.

  Raises:
    UserError: options that cannot have been those of the quantizer.
    TypeError: another type.
  """
  check("dequantize_blockwise", block_size, block_layout)

  def dequantize(quantized):
    return _dequantize(quantized, block_size, signed, block_layout)

  x = meshes.automatic(dequantize, (quantized,), like=quantized.codes)
  return x if dtype is None else x.astype(dtype)
