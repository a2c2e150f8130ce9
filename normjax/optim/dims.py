"""Which axes of a leaf make the matrix, stated and not guessed from `ndim`.

Flax kernels are (inputs, outputs), convolutions HWIO, embeddings (vocab,
dim); q, k, v kernels of attention may be (d, h, k) and its output (h, k, d).
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from normjax import errors
from normjax.optim import groups, readings, siblings
from normjax.optim.readings import MatrixDims
from normjax.types import Array, PyTree

__all__ = [
  "MatrixDims",
  "channel_dims",
  "default_dims",
  "map_dims",
  "torch_dims",
]

# What the functions of this file take as `dims`: None for the default.
DimsSpec = PyTree | Callable[[PyTree], PyTree] | None


def _by_rules(
  params: PyTree, *rules: readings.Rules, outputs_first: bool = False
) -> PyTree:
  named = groups.leaves(params)
  every = [rule for group in rules for rule in group]
  tree = siblings.Siblings(named, every, outputs_first)
  return jax.tree.structure(params).unflatten(tree.decide())


def default_dims(params: PyTree) -> PyTree:
  """The matrices of the hidden layers; None for what an Adam should move.

  By path, shape and siblings: dense kernels (inputs, outputs), q/k/v kernels
  (d, h, k), attention outputs (h, k, d), convolutions HWIO; other axes, of
  scanned layers and of experts, are batched. None for embeddings, heads
  (`head`, `lm_head`, `logits`, …), gains, every bias, and what has fewer than
  two axes.

  Where a name leaves two readings, as `query/kernel` (d, h, k) or (L, d, h k),
  the layer's own bias, the projections beside it and the gains of the norms
  decide. Where they don't, an entry is `assumed`: it has the axes of a layer
  that is not scanned, and `describe` says so.

  Returns:
    A tree of the structure of params, its leaves `MatrixDims` or None.

  Raises:
    UserError: siblings that fit both readings of a leaf.
  """
  return _by_rules(params, readings.NOT_HIDDEN, readings.FLAX)


def channel_dims(params: PyTree) -> PyTree:
  """The units of every leaf that has them, embeddings and heads too.

  A unit is a dense layer's or a convolution's output, or an embedding's
  token. None for gains and biases. Otherwise as `default_dims`.
  """
  return _by_rules(params, readings.EMBEDDING_UNITS, readings.FLAX)


def map_dims(params: PyTree) -> PyTree:
  """The matrix of every linear map, embeddings and heads too.

  An embedding maps tokens to features: (vocab, dim) are inputs and outputs. In
  `channel_dims` a token is a unit, that is, an output. Otherwise as there.
  """
  return _by_rules(params, readings.EMBEDDING_MAPS, readings.FLAX)


def torch_dims(params: PyTree) -> PyTree:
  """`default_dims` for the layouts of PyTorch and Equinox: (out, in).

      tx = optim.muon(0.02, dims=optim.torch_dims)

  Linear weights are (out, in), convolutions (out, in, *window); other axes, as
  of stacked layers, come first. Where a method's default is `channel_dims`,
  it stands for the same of this layout: embeddings (vocab, d) and heads have
  units too; likewise for `map_dims`. PyTorch's transposed convolutions,
  (in, out, *window), need `MatrixDims` by hand.

  Returns:
    A tree of the structure of params, its leaves `MatrixDims` or None.
  """
  rules = readings.NOT_HIDDEN, readings.TORCH
  return _by_rules(params, *rules, outputs_first=True)


def _torch_channel_dims(params: PyTree) -> PyTree:
  return _by_rules(params, readings.TORCH, outputs_first=True)


def _torch_map_dims(params: PyTree) -> PyTree:
  rules = readings.EMBEDDING_MAPS, readings.TORCH
  return _by_rules(params, *rules, outputs_first=True)


@dataclasses.dataclass(frozen=True, eq=False)
class Matrices:
  """What `dims` may be where the axes are known: a function for each question.

  Attributes:
    hidden: in place of `default_dims`.
    channels: in place of `channel_dims`.
    inner: `hidden` without the layer that reads the data.
    maps: in place of `map_dims`.
  """

  hidden: Callable[[PyTree], PyTree]
  channels: Callable[[PyTree], PyTree]
  inner: Callable[[PyTree], PyTree]
  maps: Callable[[PyTree], PyTree]

  def __call__(self, params: PyTree) -> PyTree:
    """As `hidden`."""
    return self.hidden(params)


def inner(dims: DimsSpec) -> DimsSpec:
  """Without the layer that reads the data, where `dims` knows which it is."""
  return dims.inner if isinstance(dims, Matrices) else dims


def maps(dims: DimsSpec) -> Callable[[PyTree], PyTree]:
  """What `dims` says where None stands for `map_dims`, as a function."""

  def function(params: PyTree) -> PyTree:
    entries = resolve(dims, params, map_dims)
    return jax.tree.structure(params).unflatten(entries)

  return function


def _is_entry(node: Any) -> bool:
  return node is None or hasattr(node, "reduction_axis")


def read(entry: MatrixDims | None) -> str:
  """What `describe` adds of an entry's axes: something where it is assumed."""
  if entry is None or not entry.assumed:
    return ""
  reduction, output = axes(entry)
  return f", assumed: in {reduction}, out {output}"


def _axes(axis: int | Sequence[int], ndim: int) -> tuple[int, ...]:
  flat = (axis,) if isinstance(axis, int) else tuple(axis)
  if any(not -ndim <= a < ndim for a in flat):
    raise ValueError
  return tuple(sorted(a % ndim for a in flat))


def _normalize(path: str, leaf: Any, entry: Any) -> MatrixDims | None:
  if entry is None or 0 in jnp.shape(leaf):  # Nothing to move.
    return None
  if not _is_entry(entry):
    raise errors.WrongTypeError(
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
  return MatrixDims(reduction, output, getattr(entry, "assumed", False))


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
    UserError: another structure, axes that the leaf does not have, or leaves
      of which the default cannot tell which axes they have.
    TypeError: an entry that is neither `MatrixDims` nor None.
  """
  spec = default if dims is None else dims
  if spec is torch_dims:
    spec = _OF_TORCH.get(default, torch_dims)
  elif isinstance(spec, Matrices):
    others: _Defaults = {channel_dims: spec.channels, map_dims: spec.maps}
    spec = others.get(default, spec)
  tree = spec(params) if groups.is_function(spec) else spec
  entries = groups.align("dims", tree, params, is_leaf=_is_entry)
  return [
    _normalize(path, leaf, entry)
    for (path, leaf), entry in zip(groups.leaves(params), entries, strict=True)
  ]


_Defaults = Mapping[Callable[[PyTree], PyTree], Callable[[PyTree], PyTree]]
# What `torch_dims` stands for where a default is another than `default_dims`.
_OF_TORCH: _Defaults = {
  channel_dims: _torch_channel_dims,
  map_dims: _torch_map_dims,
}


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
  order = _order(x.ndim, entry)
  reduction, output = axes(entry)
  batch = order[: x.ndim - len(reduction) - len(output)]
  # Not -1, which an empty matrix leaves open.
  number = math.prod(x.shape[axis] for axis in batch)
  return x.transpose(order).reshape((number, *sizes(x.shape, entry)))


def from_matrices(
  x_bio: Array, shape: tuple[int, ...], entry: MatrixDims
) -> Array:
  """The inverse of `to_matrices`, for a leaf of this shape."""
  order = _order(len(shape), entry)
  inverse = tuple(order.index(axis) for axis in range(len(shape)))
  return x_bio.reshape([shape[axis] for axis in order]).transpose(inverse)
