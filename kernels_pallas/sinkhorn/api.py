"""The op and its implementations."""

import functools
import importlib
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from kernels_pallas import dispatch, tiles
from kernels_pallas.sinkhorn import ref

_SIDES = ("output", "reduction")


def sinkhorn(
  x: Any,
  num_iters: int | Array = 5,
  first: str = "output",
  impl: str | Sequence[str] | None = None,
) -> Any:
  """Scales the outputs and the inputs of matrices in turn, to an RMS of 1 each.

      X = X diag(sqrt(m) / |columns of X|);  X = diag(sqrt(n) / |rows of X|) X

  num_iters times: arXiv:2502.06742, algorithm 3. The iterate is diag(u) X
  diag(v) with two vectors, so that X is read and never written. Plain
  operations read it twice per round; a kernel reads it once, since it sums the
  columns of a row that it has just scaled. Entries below 1e-19 times the
  largest count as zero; zero rows and columns stay zero.

  Args:
    x: (batch, inputs, outputs), or a tree of such arrays, which kernels take
      together. In float32 at least.
    num_iters: rounds, at least 1. May be traced, but not for a kernel.
    first: the side that a round begins with: "output" scales each column, the
      inputs of an output; "reduction" each row.
    impl: "mosaic_gpu", for NVIDIA's Hopper; "pallas_tpu"; "reference", plain
      operations. None takes the first that runs here, a kernel only if a
      device of the kind has proved it; a tuple is tried in its order, for each
      array.

  Returns:
    Of the shapes and dtypes of x.

  Raises:
    TypeError: an x that is not floating, rounds that are no integer.
    ValueError: an x of other than three axes, no rounds, an unknown side.
    UnsupportedError: no implementation that was asked for runs here.
  """
  num_iters = _rounds(num_iters)
  if first not in _SIDES:
    raise ValueError(
      f"sinkhorn has no first={first!r}; known: {', '.join(_SIDES)}."
    )
  flat, structure = jax.tree.flatten(x)
  op = _op(isinstance(num_iters, int))
  for name, members in op.by_leaf(impl, ((leaf,) for leaf in flat)).items():
    moved = _FUNCTIONS[name]([flat[n] for n in members], num_iters, first)
    for n, leaf in zip(members, moved, strict=True):
      flat[n] = leaf
  return structure.unflatten(flat)


def _rounds(num_iters: Any) -> int | Array:
  """The rounds; Python's own integer where it is known and not an array."""
  if isinstance(num_iters, Array):
    if num_iters.shape or not jnp.issubdtype(num_iters.dtype, jnp.integer):
      raise TypeError(
        f"sinkhorn needs one integer as num_iters; got {jax.typeof(num_iters)}."
      )
    return num_iters
  try:
    rounds = operator.index(num_iters)
  except TypeError:
    raise TypeError(
      f"sinkhorn needs an integer num_iters; got {num_iters!r}."
    ) from None
  if rounds < 1:
    raise ValueError(f"sinkhorn needs num_iters of 1 or more; got {rounds}.")
  return rounds


def _check(x: Array, num_iters: Any = 5, first: str = "output") -> None:
  del num_iters, first
  if not jnp.issubdtype(x.dtype, jnp.floating):
    raise TypeError(f"sinkhorn needs a floating x; got dtype {x.dtype}.")
  if x.ndim != 3:
    raise ValueError(
      f"sinkhorn needs x (batch, inputs, outputs); got shape {x.shape}."
    )


# Pallas costs half a second to import; only an accelerator has use for it.
def _mosaic_gpu(x: Any, num_iters: int = 5, first: str = "output") -> Any:
  from kernels_pallas.sinkhorn import gpu

  return gpu.sinkhorn(x, num_iters, first)


def _pallas_tpu(x: Any, num_iters: int = 5, first: str = "output") -> Any:
  from kernels_pallas.sinkhorn import tpu

  return tpu.sinkhorn(x, num_iters, first)


def _reference(
  x: Any, num_iters: int | Array = 5, first: str = "output"
) -> Any:
  return jax.tree.map(lambda leaf: ref.sinkhorn(leaf, num_iters, first), x)


_FUNCTIONS = {
  "mosaic_gpu": _mosaic_gpu,
  "pallas_tpu": _pallas_tpu,
  "reference": _reference,
}


def _supports(platform: str, fixed: bool) -> dispatch.Supports:
  def supports(
    target: dispatch.Target,
    shapes: dispatch.Shapes,
    dtypes: Sequence[DTypeLike],
  ) -> str | None:
    reason = tiles.elsewhere(platform, target)
    if reason is not None:
      return reason
    if not fixed:
      return "needs a fixed number of rounds"
    if dtypes[0] not in (jnp.float32, jnp.bfloat16):
      return f"needs float32 or bfloat16, not {dtypes[0]}"
    if not all(shapes[0]):
      return f"needs entries, not shape {shapes[0]}"
    kernel = importlib.import_module(f"{__package__}.{platform}")
    reason = kernel.supports(shapes[0])
    return reason or dispatch.one_device(target)

  return supports


@functools.cache
def _op(fixed: bool) -> dispatch.Op:
  """The op of one array; `fixed`: whether the rounds are."""

  def candidate(name, supports=dispatch.anywhere, silicon=False):
    return dispatch.Candidate(name, _FUNCTIONS[name], supports, silicon)

  return dispatch.Op(
    "sinkhorn",
    (
      candidate("mosaic_gpu", _supports("gpu", fixed), silicon=True),
      candidate("pallas_tpu", _supports("tpu", fixed), silicon=True),
      candidate("reference"),
    ),
    _check,
    rows=(0,),
    leading=1,
  )


OP = _op(True)
IMPLEMENTATIONS = OP.implementations
