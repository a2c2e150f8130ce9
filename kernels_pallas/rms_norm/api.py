"""The op and its implementations."""

from collections.abc import Sequence
from typing import overload

from jax import Array

from kernels_pallas import blocks as blocks_lib
from kernels_pallas import dispatch, tiles
from kernels_pallas import residual as residual_lib
from kernels_pallas.residual import Results
from kernels_pallas.rms_norm import blocks, ref, xla


@overload
def rms_norm(
  x: Array,
  scale: Array | None = None,
  eps: float = 1e-6,
  impl: str | Sequence[str] | None = None,
  residual: None = None,
) -> Array: ...


@overload
def rms_norm(
  x: Array,
  scale: Array | None = None,
  eps: float = 1e-6,
  impl: str | Sequence[str] | None = None,
  *,
  residual: Array,
) -> tuple[Array, Array]: ...


def rms_norm(
  x: Array,
  scale: Array | None = None,
  eps: float = 1e-6,
  impl: str | Sequence[str] | None = None,
  residual: Array | None = None,
) -> Results:
  """Root mean square normalization over the last axis.

      y = h / sqrt(mean(h^2) + eps) * scale, h = x or x + residual

  arXiv:1910.07467, equation 4. Accumulates in float32 (float64 for float64);
  the product with `scale` is rounded once, to the dtype of x.

  Args:
    x: (..., d), floating.
    scale: (d,), or None for 1.
    eps: inside the square root.
    impl: "mosaic_gpu", for Hopper; "pallas_tpu"; "xla_blocks", for large x on
      one CPU: block by block of rows; "xla", plain operations with a
      hand-written backward pass; "reference", plain operations and autodiff,
      also forward-mode. None takes the first that runs here, a kernel only if
      a device of the kind has proved it; a tuple is tried in its order.
    residual: added to x first, of its shape and dtype; a kernel does it while
      the row is at hand.

  Returns:
    Of the shape and dtype of x: y; with a residual y and h, which is rounded
    before it is normalised.

  Raises:
    TypeError: an x that is not floating, a residual of another dtype.
    ValueError: a scale or residual that does not fit.
    UnsupportedError: no implementation that was asked for runs here.
  """
  return OP(x, scale, residual, eps, impl=impl)


def _check(x: Array, scale: Array | None, residual: Array | None, eps: float):
  del eps
  dispatch.check_rows("rms_norm", x, scale=scale)
  dispatch.check_residual("rms_norm", x, residual)


# Pallas costs half a second to import; only an accelerator has use for it.
def _mosaic_gpu(
  x: Array, scale: Array | None, residual: Array | None, eps: float
) -> Results:
  from kernels_pallas.rms_norm import gpu

  return gpu.rms_norm(x, scale, residual, eps)


def _pallas_tpu(
  x: Array, scale: Array | None, residual: Array | None, eps: float
) -> Results:
  from kernels_pallas.rms_norm import tpu

  return tpu.rms_norm(x, scale, residual, eps)


OP = dispatch.Op(
  "rms_norm",
  (
    dispatch.Candidate(
      "mosaic_gpu", _mosaic_gpu, tiles.gpu_supports, silicon=True
    ),
    dispatch.Candidate(
      "pallas_tpu", _pallas_tpu, tiles.tpu_supports, silicon=True
    ),
    dispatch.Candidate(
      "xla_blocks",
      residual_lib.plain(blocks.rms_norm, vectors=1),
      blocks_lib.supports,
    ),
    dispatch.Candidate("xla", residual_lib.plain(xla.rms_norm, vectors=1)),
    dispatch.Candidate(
      "reference", residual_lib.plain(ref.rms_norm, vectors=1)
    ),
  ),
  _check,
  rows=(0, 2),
)
IMPLEMENTATIONS = OP.implementations
