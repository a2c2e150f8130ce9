"""What the other leaves of a tree say of a leaf whose name leaves it open.

A kernel (a, b, c) called `query` is (d, h, k) in one layer, and (L, d, h k) in
scanned ones. Its own bias tells them apart, the projections beside it, and
the gains of the norms: under a scan every leaf has the axis of the layers.
"""

import dataclasses
import functools
import itertools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

from normjax import errors
from normjax.optim import groups, readings
from normjax.optim.readings import MatrixDims

Shape = tuple[int, ...]
# The axes that are layers of a scan.
Batch = tuple[int, ...]
_Test = Callable[["_Option"], bool]

_LAYER = re.compile(r"(?:(.*)/)?(?:kernel|weight|w)(?:/\d+)?")
_GAIN = re.compile(r"(.*/)?(scale|gain|gamma|weight)(/\d+)?")
# They are as long as a head, not as the model.
_HEAD_NORM = re.compile(
  r"(.*/)?(q|k|v|qk|query|key|value)_?(layer_?)?(norm|ln)\w*/.*"
)


class _Leaf(NamedTuple):
  path: str
  shape: Shape
  kind: readings.Kind
  layer: str  # The path without "/kernel".
  module: str  # What the layer is in.


class _Option(NamedTuple):
  """A reading of the axes, and the scans that lead to it."""

  entry: MatrixDims
  batches: tuple[Batch, ...]


def _parent(path: str) -> str:
  return path.rpartition("/")[0]


def _scopes(path: str) -> list[str]:
  """The path, its parents, and the root."""
  parts = path.split("/") if path else []
  return ["/".join(parts[:n]) for n in range(len(parts), -1, -1)]


def _axes(axis: Any, ndim: int) -> tuple[int, ...]:
  flat = (axis,) if isinstance(axis, int) else axis
  return tuple(sorted(a % ndim for a in flat))


def _without_ones(shape: Sequence[int]) -> Shape:
  return tuple(size for size in shape if size != 1)


def _outputs(shape: Shape, entry: MatrixDims) -> Shape:
  """The shape of the layer's bias."""
  reduction = _axes(entry.reduction_axis, len(shape))
  return _without_ones([s for n, s in enumerate(shape) if n not in reduction])


def _read(kind: readings.Kind, ndim: int, batch: Batch) -> MatrixDims | None:
  """The kind's axes in a leaf whose axes `batch` are layers of a scan."""
  rest = [axis for axis in range(ndim) if axis not in batch]
  entry = kind.dims.get(len(rest))
  if entry is None or not batch:
    return entry
  reduction, output = (
    tuple(rest[axis] for axis in _axes(axes, len(rest)))
    for axes in (entry.reduction_axis, entry.output_axis)
  )
  return MatrixDims(reduction, output)


def _by_bias(
  shape: Shape, bias: Shape, outputs_first: bool
) -> MatrixDims | None:
  """All axes of the bias are outputs, all others inputs; None if they differ.

  A dense layer over several axes, or a convolution.
  """
  ndim, count = len(shape), len(bias)
  outputs = range(count) if outputs_first else range(ndim - count, ndim)
  if not 0 < count < ndim or tuple(shape[n] for n in outputs) != bias:
    return None
  inputs = tuple(n for n in range(ndim) if n not in outputs)
  return MatrixDims(inputs, tuple(outputs))


def _pair_fits(split: Shape, merge: Shape, batch: Batch, strict: bool) -> bool:
  """Whether the kernels of a module's inputs and its output have such axes."""
  if not batch:  # (d, h, k) and (h, k, d).
    same = math.prod(split[1:]) == math.prod(merge[:-1])
    same &= len(split) != len(merge) or split[1:] == merge[:-1]
    return split[0] == merge[-1] and (same or not strict)
  if len(split) != len(merge) or len(split) < 3:
    return False
  if batch == (0,):  # (L, d, f) and (L, f, d).
    return split[0] == merge[0] and (split[1] == merge[-1] or not strict)
  # (d, L, f) and (f, L, d).
  return batch == (1,) and split[:3] == (merge[2], merge[1], merge[0])


class Siblings:
  """The leaves of a tree, as far as they say something of each other."""

  def __init__(
    self,
    named: Sequence[tuple[str, Any]],
    rules: readings.Rules,
    outputs_first: bool = False,
  ):
    """Looks at the leaves.

    Args:
      named: path and leaf of each, as `groups.leaves` gives them.
      rules: what names say.
      outputs_first: whether kernels are (out, in).
    """
    self._outputs_first = outputs_first
    self._shapes = {path: jnp.shape(leaf) for path, leaf in named}
    self._leaves: list[_Leaf] = []
    # By scope: the gains in it, and those of its own norms.
    self._norms: dict[str, list[Shape]] = {}
    self._own_norms: dict[str, list[Shape]] = {}
    self._modules: dict[str, list[_Leaf]] = {}
    self._pairs: dict[Any, bool] = {}
    self._inside: dict[str, list[Shape]] = {}
    for (path, leaf), vector in zip(named, groups.vectors(named), strict=True):
      kind = readings.NONE if vector else groups.match(rules, path)
      found = _LAYER.fullmatch(path)
      layer = (found[1] or "") if found and not vector else path
      leaf = _Leaf(path, jnp.shape(leaf), kind, layer, _parent(layer))
      self._leaves.append(leaf)
      if not vector and len(leaf.shape) > 1:
        self._modules.setdefault(leaf.module, []).append(leaf)
      elif vector and _GAIN.fullmatch(path) and not _HEAD_NORM.fullmatch(path):
        shape = leaf.shape
        # Haiku's batch norms have (1, 1, 1, c).
        shape = _without_ones(shape) if len(shape) > 2 else shape
        norm = _parent(path)
        for scope in _scopes(norm):
          self._norms.setdefault(scope, []).append(shape)
        for scope in {norm, _parent(norm)}:
          self._own_norms.setdefault(scope, []).append(shape)

  def decide(self) -> list[MatrixDims | None]:
    """The axes of every leaf, None for what is no matrix.

    Raises:
      UserError: the siblings fit two readings of a leaf.
    """
    return [self._decide(leaf) for leaf in self._leaves]

  def _decide(self, leaf: _Leaf) -> MatrixDims | None:
    ndim = len(leaf.shape)
    default = leaf.kind.dims.get(ndim)
    if default is None or ndim < 3:
      return default
    bias = self._bias(leaf)
    left = options = self._options(leaf)
    known = False
    if bias:
      fits = [o for o in options if _outputs(leaf.shape, o.entry) == bias]
      other = _by_bias(leaf.shape, bias, self._outputs_first)
      if not fits and other is not None and not leaf.kind.certain:
        return other
      left, known = fits or left, bool(fits)
    for test, decides in self._tests(leaf):
      fits = [option for option in left if test(option)]
      left, known = fits or left, known or (bool(fits) and decides)
    if len(options) == 1 or ndim not in leaf.kind.open:
      return left[0].entry
    if not known and leaf.kind.role and self._all_stacked(leaf):
      left = [option for option in left if (0,) in option.batches]
      known = bool(left)
    if not known:
      return dataclasses.replace(options[0].entry, assumed=True)
    scanned = next((o for o in left[1:] if (0,) in o.batches), None)
    if leaf.kind.role and () in left[0].batches and scanned:
      self._fail(leaf, left[0], scanned)
    return left[0].entry

  def _fail(self, leaf: _Leaf, one: _Option, other: _Option) -> None:
    def show(option):
      reduction = _axes(option.entry.reduction_axis, len(leaf.shape))
      output = _axes(option.entry.output_axis, len(leaf.shape))
      return f"MatrixDims({reduction}, {output})"

    raise errors.UserError(
      f"dims of the leaf {groups.show(leaf.path)} of shape {leaf.shape}: the"
      f" leaves beside it fit {show(one)}, heads of attention, and"
      f" {show(other)}, scanned layers; say which by the option dims."
    )

  def _bias(self, leaf: _Leaf) -> Shape:
    if leaf.layer == leaf.path:
      return ()
    for name in ("bias", "b"):
      path = f"{leaf.layer}/{name}".removeprefix("/")
      if path in self._shapes:
        return _without_ones(self._shapes[path])
    return ()

  def _options(self, leaf: _Leaf) -> list[_Option]:
    """The readings that differ, that of the name alone first."""
    shape = leaf.shape
    batches: list[Batch] = [(), (0,), *self._scans(leaf)]
    if len(shape) == 3 and self._pair(leaf.module, (1,), True):
      batches.append((1,))
    found: dict[Any, list[Any]] = {}
    for batch in batches:
      entry = _read(leaf.kind, len(shape), batch)
      if entry is None:
        continue
      # Axes of size 1 make no difference.
      key = tuple(
        tuple(n for n in _axes(axis, len(shape)) if shape[n] > 1)
        for axis in (entry.reduction_axis, entry.output_axis)
      )
      found.setdefault(key, [entry]).append(batch)
    return [_Option(entry, tuple(rest)) for entry, *rest in found.values()]

  def _tests(self, leaf: _Leaf) -> list[tuple[_Test, bool]]:
    """What an option must pass, strongest first; whether it alone decides."""

    def fits_pair(option, strict):
      return any(self._pair(leaf.module, b, strict) for b in option.batches)

    tests: list[tuple[_Test, bool]] = []
    if len(leaf.shape) == 3:
      for strict in (False, True):
        tests.append((functools.partial(fits_pair, strict=strict), True))
    scope, norms = self._nearest_norms(leaf)
    scans = self._scans(leaf)
    if scans:
      tests.append((lambda o: not set(scans).isdisjoint(o.batches), True))
    elif norms and all(len(shape) == 1 for shape in norms):
      # A norm at the root, or of another module, may be of no block.
      decides = scope != "" and scope in self._own_norms
      tests.append((lambda o: () in o.batches, decides))
    return tests

  def _pair(self, module: str, batch: Batch, strict: bool) -> bool:
    """Whether q and the output of a module fit, or an MLP's two sides."""
    key = module, batch, strict
    if key not in self._pairs:
      self._pairs[key] = self._any_pair(*key)
    return self._pairs[key]

  def _any_pair(self, module: str, batch: Batch, strict: bool) -> bool:
    members = self._modules.get(module, [])
    of = {
      role: [m.shape for m in members if m.kind.role == role]
      for role in ("split", "merge", "")
    }
    splits, merges = of["split"] or of[""], of["merge"] or of[""]
    if not of["split"] and not of["merge"]:
      return False
    return any(
      _pair_fits(split, merge, batch, strict)
      for split, merge in itertools.product(splits, merges)
    )

  def _all_stacked(self, leaf: _Leaf) -> bool:
    """Whether all around it, of other names too, begins with one axis more."""
    for scope in _scopes(leaf.module):
      inside = [
        other
        for other in self._leaves
        if not scope or other.path.startswith(f"{scope}/")
      ]
      for other in inside:
        least = 2 if other.kind is readings.NONE else 3
        if len(other.shape) < least or other.shape[0] != leaf.shape[0]:
          return False
      roles = {o.kind.role for o in inside if o.kind is not readings.NONE}
      if len(roles) > 1:
        return True
    return False

  def _nearest_norms(self, leaf: _Leaf) -> tuple[str, list[Shape]]:
    for scope in _scopes(leaf.layer):
      if scope in self._norms:
        return scope, self._norms[scope]
    return "", []

  def _scans(self, leaf: _Leaf) -> list[Batch]:
    """The axes of a scan, where the gains of the norms have them too."""
    scope, norms = self._nearest_norms(leaf)
    gain = max(norms, key=len, default=())
    if len(gain) < 2:
      return []
    # A scan's axis may be the second, as in T5X and MaxText.
    batches: list[Batch] = [tuple(range(len(gain) - 1))]
    if len(gain) == 2:
      batches.append((1,))

    def shared(batch, shapes):
      return all(
        len(shape) > max(batch) and all(shape[a] == gain[a] for a in batch)
        for shape in shapes
      )

    if scope not in self._inside:
      self._inside[scope] = [
        shape
        for path, shape in self._shapes.items()
        if not scope or path.startswith(f"{scope}/")
      ]
    fits = [batch for batch in batches if shared(batch, self._inside[scope])]
    if fits or gain not in self._own_norms.get(scope, []):
      return fits
    # The scope may be no scan, but hold stacked leaves beside others.
    return batches[:1] if shared(batches[0], [leaf.shape]) else []
