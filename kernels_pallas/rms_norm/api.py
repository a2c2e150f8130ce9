"""The op and its implementations."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from kernels_pallas import blocks as blocks_lib
from kernels_pallas import dispatch
from kernels_pallas.rms_norm import blocks, ref, xla

_LANES = 128


def rms_norm(
  x: Array,
  scale: Array | None = None,
  eps: float = 1e-6,
  impl: str | Sequence[str] | None = None,
) -> Array:
  """Root mean square normalization over the last axis.

      y = x / sqrt(mean(x^2) + eps) * scale

  arXiv:1910.07467, equation 4. Accumulates in float32 (float64 for float64);
  the product with `scale` is rounded once, to the dtype of x.

  Args:
    x: (..., d), floating.
    scale: (d,), or None for 1.
    eps: inside the square root.
    impl: "pallas_tpu"; "xla_blocks", for large x on one CPU: block by block of
      rows; "xla", plain operations with a hand-written backward pass;
      "reference", plain operations and autodiff, also forward-mode. None takes
      the first that runs here; a tuple is tried in its order.

  Returns:
    Of the shape and dtype of x.

  Raises:
    TypeError: an x that is not floating.
    ValueError: a scale that does not fit.
    UnsupportedError: no implementation that was asked for runs here.
  """
  return OP(x, scale, eps, impl=impl)


def _check(x: Array, scale: Array | None, eps: float):
  del eps
  dispatch.check_rows("rms_norm", x, scale=scale)


def _pallas_tpu(x: Array, scale: Array | None, eps: float) -> Array:
  # Pallas costs half a second to import; only a TPU has use for it.
  from kernels_pallas.rms_norm import tpu

  return tpu.rms_norm(x, scale, eps)


def _tpu_supports(
  target: dispatch.Target, shapes: dispatch.Shapes, dtypes: Sequence[DTypeLike]
) -> str | None:
  """Why the TPU kernel cannot run."""
  if target.platform != "tpu":
    return f"needs a TPU, this is {target.platform}"
  from kernels_pallas.rms_norm import tpu

  shape, dtype = shapes[0], dtypes[0]
  width = shape[-1]
  if dtype not in (jnp.float32, jnp.bfloat16):
    return f"needs float32 or bfloat16, not {dtype}"
  if width % _LANES or not all(shape):
    return f"needs rows of a multiple of {_LANES} values, not shape {shape}"
  if tpu.block_rows(width) is None:
    return f"rows of {width} values do not fit the kernel's memory"
  return dispatch.one_device(target)


OP = dispatch.Op(
  "rms_norm",
  (
    dispatch.Candidate("pallas_tpu", _pallas_tpu, _tpu_supports, silicon=True),
    dispatch.Candidate("xla_blocks", blocks.rms_norm, blocks_lib.supports),
    dispatch.Candidate("xla", xla.rms_norm),
    dispatch.Candidate("reference", ref.rms_norm),
  ),
  _check,
  rows=(0,),
)
IMPLEMENTATIONS = OP.implementations
