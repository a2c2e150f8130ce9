"""8-bit block-wise dynamic quantisation: Dettmers et al., arXiv:2110.02861.

The map, the rounding and the sign repair are those of bitsandbytes.
"""

from typing import Any

import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jax.typing import DTypeLike

from kernels_pallas import codes, dispatch
from kernels_pallas.codes import Quantized, dynamic_map
from normjax import validate
from normjax.optim import groups, meshes
from normjax.types import Array

__all__ = [
  "Quantized",
  "dequantize_blockwise",
  "dynamic_map",
  "quantize_blockwise",
]

LAYOUTS = ("rows", "flat")


def check(method: str, block_size: Any, block_layout: Any) -> None:
  """Checks the options of a block, as for `quantize_blockwise`."""
  validate.count(method, "block_size", block_size)
  validate.choice(method, "block_layout", block_layout, LAYOUTS)


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

  form = codes.form(dispatch.target(x))

  def quantize(x):
    return codes.quantize(
      x, block_size, signed, block_layout, sign_repair, form
    )

  spec = meshes.leaf_spec(x) if block_layout == "rows" else []
  if spec and meshes.shard_shape(x)[-1] % block_size:
    # A shard of a row holds parts of blocks: each device has all its scales.
    spec[-1] = None
  whole_blocks: Any = PartitionSpec(*spec)
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

  form = codes.form(dispatch.target(quantized.codes))

  def dequantize(quantized):
    return codes.dequantize(quantized, block_size, signed, block_layout, form)

  x = meshes.automatic(dequantize, (quantized,), like=quantized.codes)
  return x if dtype is None else x.astype(dtype)
