"""The op and its implementations."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from jax import Array

from kernels_pallas import dispatch, tiles
from kernels_pallas.seednorm import ref


def seednorm(
  x: Array,
  alpha: Array,
  beta: Array,
  scale: Array,
  eps: float = 1e-6,
  *,
  divisor: float = 1.0,
  num_heads: int = 1,
  impl: str | Sequence[str] | None = None,
) -> Array:
  """RMS normalization over the last axis, with a gain that depends on the row.

      y = (tanh(x . beta / divisor) * alpha + scale) * x / sqrt(mean(x^2) + eps)

  arXiv:2510.22777. Accumulates in float32 (float64 for float64); y is rounded
  once, to the dtype of x.

  Args:
    x: (..., d), floating.
    alpha: (d,).
    beta: (d,).
    scale: (d,).
    eps: inside the square root.
    divisor: of the dot product.
    num_heads: slices of x and beta, each with a dot product of its own.
    impl: "mosaic_gpu", for Hopper, and "pallas_tpu", both of one head;
      "reference", plain operations and autodiff. None takes the first that runs
      here, a kernel only if a device of the kind has proved it; a tuple is
      tried in its order.

  Raises:
    TypeError: an x that is not floating, a vector that is no array.
    ValueError: a vector that does not fit.
    UnsupportedError: no implementation that was asked for runs here.
  """
  op = of_heads(num_heads)
  return op(x, alpha, beta, scale, eps, divisor, num_heads, impl=impl)


def _check(x: Array, alpha: Array, beta: Array, scale: Array, *_: Any):
  vectors = {"alpha": alpha, "beta": beta, "scale": scale}
  for name, vector in vectors.items():
    if vector is None:
      raise TypeError(f"seednorm needs {name} as an array; got None.")
  dispatch.check_rows("seednorm", x, **vectors)


# Pallas costs half a second to import; only an accelerator has use for it.
def _mosaic_gpu(*arguments: Any) -> Array:
  from kernels_pallas.seednorm import gpu

  return gpu.seednorm(*arguments)


def _pallas_tpu(*arguments: Any) -> Array:
  from kernels_pallas.seednorm import tpu

  return tpu.seednorm(*arguments)


def _of_one_head(
  num_heads: int, supports: dispatch.Supports
) -> dispatch.Supports:
  def with_heads(target, shapes, dtypes):
    if num_heads != 1:
      return f"has one head, not {num_heads}"
    return supports(target, shapes, dtypes)

  return with_heads


@functools.cache
def of_heads(num_heads: int) -> dispatch.Op:
  """The op for so many heads."""

  def kernel(
    name: str, function: Callable[..., Array], supports: dispatch.Supports
  ) -> dispatch.Candidate:
    alone = _of_one_head(num_heads, supports)
    return dispatch.Candidate(name, function, alone, silicon=True)

  return dispatch.Op(
    "seednorm",
    (
      kernel("mosaic_gpu", _mosaic_gpu, tiles.gpu_supports),
      kernel("pallas_tpu", _pallas_tpu, tiles.tpu_supports),
      dispatch.Candidate("reference", ref.seednorm),
    ),
    _check,
    rows=(0,),
  )


OP = of_heads(1)
IMPLEMENTATIONS = OP.implementations
