"""Block-wise quantisation: Dettmers et al., arXiv:2110.02861.

The 8-bit map, its rounding and the sign repair are those of bitsandbytes;
`codebooks` has the codes of 4 bits and of FP8, and says whose they are.
"""

from typing import Any

import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jax.typing import DTypeLike

from kernels_pallas import codes, dispatch
from kernels_pallas.codes import Quantized, dynamic_map
from normjax import errors, validate
from normjax.optim import codebooks, groups, meshes
from normjax.optim.codebooks import DYNAMIC8
from normjax.types import Array

__all__ = [
  "Quantized",
  "dequantize_blockwise",
  "dynamic_map",
  "quantize_blockwise",
]

LAYOUTS = ("rows", "flat")


def check(method: str, block_size: Any, block_layout: Any, *codes: str) -> None:
  """Checks the options of a block, as for `quantize_blockwise`.

  Args:
    method: for messages.
    block_size: as there, and even where a code has 4 bits.
    block_layout: as there.
    *codes: names of codes that are known to be some.
  """
  validate.count(method, "block_size", block_size)
  validate.choice(method, "block_layout", block_layout, LAYOUTS)
  packed = [code for code in codes if codebooks.bits(code) == 4]
  if packed and block_size % 2:
    validate.refuse(
      method,
      "block_size",
      block_size,
      f"an even int, since two entries of {packed[0]!r} share a byte",
    )


def check_code(method: str, name: str, code: Any, signed: bool) -> None:
  """Checks the name of a code."""
  known = codebooks.SIGNED if signed else codebooks.UNSIGNED
  validate.choice(method, name, code, known)


def quantize_blockwise(
  x: Array,
  block_size: int = 256,
  signed: bool = True,
  *,
  block_layout: str = "rows",
  sign_repair: bool = False,
  code: str = DYNAMIC8,
  rounding: codebooks.Rounding = codebooks.NEAREST,
  again: Array | None = None,
) -> Quantized:
  """Rounds x to 8 or 4 bits, relative to the largest of its block.

      absmax_b = max_i |x_bi|;  code_bi = argmin_c |map_c - x_bi / absmax_b|

  arXiv:2110.02861, section 2.1, in float32. A tie between two values takes the
  lower code, as in bitsandbytes' kernels; the midpoint is rounded to float32.
  The map has no -1: an extreme entry that is negative shrinks to 0.993 of it.

  Other codes, whose ties go up as in torchao:

      dynamic4          0, 1, +-(.0055 .0325 .0775 .2125 .4375 .6625 .8875); no
                        -1: a negative extreme shrinks by 11 % each time that it
                        is rounded, to .303 in ten times. Without signs: 0 and
                        15 values from .00325 to 1.
      dynamic4_closed   the same with -1 in place of -.0055
      nf4               QLoRA's NormalFloat, with 0, 1 and -1
      linear4           1/16, 2/16, …, 1; no 0, so that what is small beside
                        its block's largest becomes a 16th of that
      dynamic4_nonzero  dynamic4 without signs and without 0
      e4m3              FP8, whose 448 is the largest of a block

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
      of absmax, as in bitsandbytes' optimizers; of "dynamic8" alone.
    code: "dynamic8", or one of those above.
    rounding: of 4 bits: to the nearest, or at random.
    again: x computed a second time, of which the scales are then found; None
      for x itself, which "dynamic8" always takes. A GPU need not keep x.

  Returns:
    codes, uint8, in the shape of x, with half its last axis where there are two
    per byte, the first in the high half; absmax of shape
    (..., ceil(last / block_size)) or (ceil(size / block_size),), a 448th of it
    for "e4m3".

  Raises:
    UserError: a block size below 1, another layout, a code that has no such
      map, an odd last axis or block size with 4 bits.
    TypeError: another type.
  """
  method = "quantize_blockwise"
  check_code(method, "code", code, signed)
  check(method, block_size, block_layout, code)
  x = jnp.asarray(x)
  groups.check_leaves(method, x)
  if not codebooks.packs(x.shape, code):
    raise errors.UserError(
      f"{method}: x has shape {x.shape}; {code!r} keeps two entries per byte,"
      " and needs an even last axis."
    )
  form = codes.form(dispatch.target(x))
  *numbers, calibrated = rounding

  def quantize(x, again, numbers):
    if code == DYNAMIC8:
      return codes.quantize(
        x, block_size, signed, block_layout, sign_repair, form
      )
    uniform, correction, eps = numbers
    given = codebooks.Rounding(uniform, correction, eps, calibrated)
    return codebooks.quantize(
      x, block_size, signed, block_layout, code, given, form, again
    )

  spec = meshes.leaf_spec(x)
  like: Any = x
  if codebooks.bits(code) == 4:
    if meshes.shard_shape(x)[-1] % 2:
      spec[-1] = None  # A shard of a row would hold half a byte.
    like = PartitionSpec(*spec)
  if block_layout != "rows":
    spec = []
  if spec and meshes.shard_shape(x)[-1] % block_size:
    # A shard of a row holds parts of blocks: each device has all its scales.
    spec[-1] = None
  whole_blocks: Any = PartitionSpec(*spec)
  return meshes.automatic(
    quantize, (x, again, numbers), like=Quantized(like, whole_blocks)
  )


def dequantize_blockwise(
  quantized: Quantized,
  block_size: int = 256,
  signed: bool = True,
  *,
  block_layout: str = "rows",
  dtype: DTypeLike | None = None,
  code: str = DYNAMIC8,
) -> Array:
  """The array that `quantize_blockwise` stored with the same options.

  Args:
    quantized: codes and absmax.
    block_size: as it was.
    signed: as it was.
    block_layout: as it was.
    dtype: of the result; None takes float32.
    code: as it was.

  Returns:
    map[code] * absmax, in the shape of what was quantised.

  Raises:
    UserError: options that cannot have been those of the quantizer.
    TypeError: another type.
  """
  method = "dequantize_blockwise"
  check_code(method, "code", code, signed)
  check(method, block_size, block_layout, code)

  form = codes.form(dispatch.target(quantized.codes))

  def dequantize(quantized):
    if code != DYNAMIC8:
      return codebooks.dequantize(
        quantized, block_size, signed, block_layout, code, form
      )
    return codes.dequantize(quantized, block_size, signed, block_layout, form)

  x = meshes.automatic(dequantize, (quantized,), like=quantized.codes)
  return x if dtype is None else x.astype(dtype)
