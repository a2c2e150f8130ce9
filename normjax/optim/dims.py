"""Which axes of a leaf make the matrix, stated and not guessed from `ndim`.

Flax kernels are (inputs, outputs), convolutions HWIO, embeddings (vocab,
dim); q, k, v kernels of attention may be (d, h, k) and its output (h, k, d).
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from normjax import errors
from normjax.optim import groups
from normjax.types import Array, PyTree


@dataclasses.dataclass(frozen=True)
class MatrixDims:
  """The axes of a leaf that are a matrix's inputs and outputs.

  The field names are those of optax's `MuonDimensionNumbers`. Axes that are
  in neither are batched: stacked layers, experts.

  Attributes:
    reduction_axis: summed over by the layer; one axis or several.
    output_axis: kept by the layer; one axis or several.
  """

  reduction_axis: int | Sequence[int] = 0
  output_axis: int | Sequence[int] = 1


# What the functions of this file take as `dims`: None for the default.
DimsSpec = PyTree | Callable[[PyTree], PyTree] | None

_DENSE = MatrixDims(-2, -1)
_CONV = MatrixDims((-4, -3, -2), -1)
_SPLIT = r"query|key|value|[qkv]|w[qkv]|[qkv]_proj"
_MERGE = r"out|o|wo|o_proj|out_proj|output_proj"


def _by_ndim(**dims: MatrixDims | None) -> dict[int, MatrixDims | None]:
  return {int(key[1:]): value for key, value in dims.items()}


_MATRIX = _by_ndim(d2=_DENSE, d3=_DENSE, d4=_CONV, d5=_CONV)
_RULES: tuple[tuple[str, dict[int, MatrixDims | None]], ...] = (
  (groups.VECTOR_NAMES, {}),
  # Fused (d, 3, h, k): q, k and v are three matrices.
  (
    r"(.*/)?qkv(_proj)?/kernel",
    _MATRIX | _by_ndim(d4=MatrixDims(-4, (-2, -1))),
  ),
  (
    rf"(.*/)?({_SPLIT})(/kernel)?",
    _MATRIX
    | _by_ndim(d3=MatrixDims(-3, (-2, -1)), d4=MatrixDims(-3, (-2, -1))),
  ),
  (
    rf"(.*/)?({_MERGE})(/kernel)?",
    _MATRIX
    | _by_ndim(d3=MatrixDims((-3, -2), -1), d4=MatrixDims((-3, -2), -1)),
  ),
  # One-dimensional convolutions: (width, inputs, outputs).
  (r"(.*/)?\w*conv\w*(/.*)?", _MATRIX | _by_ndim(d3=MatrixDims((-3, -2), -1))),
  (".*", _MATRIX),
)
_NONE: dict[int, MatrixDims | None] = {}
_DEFAULT_RULES = (
  (groups.EMBEDDING_NAMES, _NONE),
  (groups.HEAD_NAMES, _NONE),
  *_RULES,
)
# An embedding's unit is a token, a row.
_CHANNEL_RULES = (
  (r"(.*/)?\w*embedding(_\d+)?", _by_ndim(d2=MatrixDims(-1, -2))),
  *_RULES,
)


def _by_rules(rules: Sequence[tuple[str, Any]], params: PyTree) -> PyTree:
  flat = [
    groups.match(rules, path).get(jnp.ndim(leaf))
    for path, leaf in groups.leaves(params)
  ]
  return jax.tree.structure(params).unflatten(flat)


def default_dims(params: PyTree) -> PyTree:
  """The matrices of the hidden layers; None for what an Adam should move.

  By path and shape: dense kernels (inputs, outputs), q/k/v kernels (d, h, k),
  attention outputs (h, k, d), convolutions HWIO; leading axes beyond these
  are batched. None for embeddings, heads (`head`, `lm_head`, `logits`, …),
  gains, every bias, and what has fewer than two axes. A three-dimensional
  convolution needs `dims` by hand.

  Returns:
    A tree of the structure of params, its leaves `MatrixDims` or None.
  """
  return _by_rules(_DEFAULT_RULES, params)


def channel_dims(params: PyTree) -> PyTree:
  """The units of every leaf that has them, embeddings and heads too.

  A unit is a dense layer's or a convolution's output, or an embedding's
  token. None for gains and biases.
  """
  return _by_rules(_CHANNEL_RULES, params)


def _is_entry(node: Any) -> bool:
  return node is None or hasattr(node, "reduction_axis")


def _axes(axis: int | Sequence[int], ndim: int) -> tuple[int, ...]:
  flat = (axis,) if isinstance(axis, int) else tuple(axis)
  if any(not -ndim <= a < ndim for a in flat):
    raise ValueError
  return tuple(sorted(a % ndim for a in flat))


def _normalize(path: str, leaf: Any, entry: Any) -> MatrixDims | None:
  if entry is None:
    return None
  if not _is_entry(entry):
    raise TypeError(
      f"dims: the entry of {groups.show(path)} is {entry!r}; allowed:"
      " MatrixDims or None."
    )
  try:
    reduction = _axes(entry.reduction_axis, jnp.ndim(leaf))
    output = _axes(entry.output_axis, jnp.ndim(leaf))
    both = reduction + output
    if len(set(both)) < len(both) or not reduction or not output:
      raise ValueError
  except ValueError:
    raise errors.UserError(
      f"dims of the leaf {groups.show(path)} of shape {jnp.shape(leaf)}: got"
      f" {entry!r}; allowed: disjoint axes of the leaf, at least one each."
    ) from None
  return MatrixDims(reduction, output)


def resolve(
  dims: DimsSpec,
  params: PyTree,
  default: Callable[[PyTree], PyTree] = default_dims,
) -> list[MatrixDims | None]:
  """The entry of every leaf, in order, its axes as sorted tuples >= 0.

  Args:
    dims: None for `default`, a tree of `MatrixDims` and None, or a function
      from params to such a tree.
    params: the tree.
    default: what None means.

  Raises:
    UserError: another structure, or axes that the leaf does not have.
    TypeError: an entry that is neither `MatrixDims` nor None.
  """
  spec = default if dims is None else dims
  tree = spec(params) if callable(spec) else spec
  entries = groups.align("dims", tree, params, is_leaf=_is_entry)
  return [
    _normalize(path, leaf, entry)
    for (path, leaf), entry in zip(groups.leaves(params), entries, strict=True)
  ]


def axes(entry: MatrixDims) -> tuple[tuple[int, ...], tuple[int, ...]]:
  """(reduction axes, output axes) of an entry that `resolve` made."""
  assert not isinstance(entry.reduction_axis, int)
  assert not isinstance(entry.output_axis, int)
  return tuple(entry.reduction_axis), tuple(entry.output_axis)


def sizes(shape: tuple[int, ...], entry: MatrixDims) -> tuple[int, int]:
  """(inputs, outputs) of one matrix."""
  reduction, output = axes(entry)
  return (
    math.prod(shape[axis] for axis in reduction),
    math.prod(shape[axis] for axis in output),
  )


def _order(ndim: int, entry: MatrixDims) -> tuple[int, ...]:
  reduction, output = axes(entry)
  batch = tuple(a for a in range(ndim) if a not in reduction + output)
  return batch + reduction + output


def to_matrices(x: Array, entry: MatrixDims) -> Array:
  """A view of x as (batch, inputs, outputs)."""
  return x.transpose(_order(x.ndim, entry)).reshape(
    (-1, *sizes(x.shape, entry))
  )


def from_matrices(
  x_bio: Array, shape: tuple[int, ...], entry: MatrixDims
) -> Array:
  """The inverse of `to_matrices`, for a leaf of this shape."""
  order = _order(len(shape), entry)
  inverse = tuple(order.index(axis) for axis in range(len(shape)))
  return x_bio.reshape([shape[axis] for axis in order]).transpose(inverse)
