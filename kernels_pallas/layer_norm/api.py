"""The op and its implementations."""

from collections.abc import Sequence

from jax import Array

from kernels_pallas import blocks as blocks_lib
from kernels_pallas import dispatch
from kernels_pallas.layer_norm import blocks, ref, xla


def layer_norm(
  x: Array,
  scale: Array | None = None,
  bias: Array | None = None,
  eps: float = 1e-6,
  impl: str | Sequence[str] | None = None,
) -> Array:
  """Layer normalization over the last axis.

      y = (x - mean(x)) / sqrt(var(x) + eps) * scale + bias

  arXiv:1607.06450, equations 3 and 4, with the biased variance. Two passes,
  accumulated in float32 (float64 for float64); y is rounded once, to the dtype
  of x.

  Args:
    x: (..., d), floating.
    scale: (d,), or None for 1.
    bias: (d,), or None for 0.
    eps: inside the square root.
    impl: "xla_blocks", for large x on one CPU: block by block of rows; "xla",
      plain operations with a hand-written backward pass; "reference", plain
      operations and autodiff, also forward-mode. None takes the first that
      runs here; a tuple is tried in its order.

  Returns:
    Of the shape and dtype of x.

  Raises:
    TypeError: an x that is not floating.
    ValueError: a scale or bias that does not fit.
    UnsupportedError: no implementation that was asked for runs here.
  """
  return OP(x, scale, bias, eps, impl=impl)


def _check(x: Array, scale: Array | None, bias: Array | None, eps: float):
  del eps
  dispatch.check_rows("layer_norm", x, scale=scale, bias=bias)


OP = dispatch.Op(
  "layer_norm",
  (
    dispatch.Candidate("xla_blocks", blocks.layer_norm, blocks_lib.supports),
    dispatch.Candidate("xla", xla.layer_norm),
    dispatch.Candidate("reference", ref.layer_norm),
  ),
  _check,
  rows=(0,),
)
IMPLEMENTATIONS = OP.implementations
