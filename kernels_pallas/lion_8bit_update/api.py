"""The op and its implementations."""

import functools
from collections.abc import Sequence
from typing import Any

from jax import Array

from kernels_pallas.lion_8bit_update.rule import RULE, Scalars
from kernels_pallas.step_8bit import leaves
from kernels_pallas.step_8bit import op as op_lib
from kernels_pallas.step_8bit.rule import Blocks


def lion_8bit_update(
  parameters: Any,
  gradients: Any,
  mu_codes: Any,
  mu_absmax: Any,
  scalars: Scalars | Array,
  *,
  decayed: Any = True,
  block_size: int = 256,
  block_layout: str = "rows",
  sign_repair: bool = True,
  impl: str | Sequence[str] | None = None,
) -> tuple[Any, Any, Any, Array]:
  """One step of Lion whose momentum is held in 8 bits, block by block.

      w -= lr (sign(b1 m + (1 - b1) g) + wd w)
      m = quantize(b2 m + (1 - b2) g)

  arXiv:2302.06675, algorithm 2, as `normjax.optim.lion_8bit`, whose arithmetic
  it is. With its arguments donated a kernel works in place and moves each
  buffer once; the kernels take many leaves per launch.

  Args:
    parameters: one array or a tree of them, float32 or bfloat16 in a kernel.
    gradients: of the parameters' structure, as all that follows.
    mu_codes: uint8, of the parameters' shapes; or the moment itself, float32.
    mu_absmax: scales of the blocks, float32: (..., ceil(last / block_size)) or,
      flat, (ceil(size / block_size),); None where the moment is float32.
    scalars: `Scalars`, or an array (5,) in their order; traced.
    decayed: whether a leaf decays; one boolean, or a tree of them.
    block_size: entries that share a scale.
    block_layout: "rows" or "flat".
    sign_repair: keeps negative entries of m from rounding to 0.
    impl: "mosaic_gpu", for NVIDIA's Hopper; "pallas_tpu"; "xla", plain
      operations with arithmetic codes; "reference", the same with the table.
      None takes the first that runs here, a kernel only if a device of the
      kind has proved it; a tuple is tried in its order, for each leaf.

  Returns:
    Parameters, mu_codes, mu_absmax after the step; last the sum of the squares
    of all that was added to parameters, float32.

  Raises:
    TypeError: a parameter that is not floating.
    ValueError: shapes that do not fit.
    UnsupportedError: no implementation that was asked for runs here.
  """
  blocks = Blocks(block_size, block_layout, sign_repair)
  return op_lib.run(
    of_blocks(blocks),
    RULE,
    parameters,
    gradients,
    mu_codes,
    mu_absmax,
    scalars=scalars,
    decayed=decayed,
    blocks=blocks,
    impl=impl,
  )


# Pallas costs half a second to import; only an accelerator has use for it.
def _mosaic_gpu(*arguments: Any, **options: Any) -> leaves.Results:
  from kernels_pallas.lion_8bit_update import gpu

  return gpu.lion_8bit_update(*arguments, **options)


def _pallas_tpu(*arguments: Any, **options: Any) -> leaves.Results:
  from kernels_pallas.lion_8bit_update import tpu

  return tpu.lion_8bit_update(*arguments, **options)


# From blocks to the op of one leaf, which chooses.
of_blocks = functools.cache(
  functools.partial(op_lib.of, RULE, _mosaic_gpu, _pallas_tpu)
)
OP = of_blocks(Blocks())
IMPLEMENTATIONS = OP.implementations
