"""A state whose fields are held in few bits: how it is read and written."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from normjax.optim import blockwise, codebooks, draws, groups
from normjax.optim.blockwise import Quantized
from normjax.types import Array, PyTree

# A short row has too few entries to share its absmax: 1 + 4/8 bytes each.
_LEAST_BLOCK = 8
# A smaller leaf stays in a GPU's cache between two kernels, and more of them
# cost more than what they do not move.
_LEAST_AGAIN = 1 << 19
# Of the values themselves, or of what Adam makes of them.
ROUNDINGS = ("nearest", "stochastic")


@dataclasses.dataclass(frozen=True)
class Code:
  """Of a kind of fields.

  Attributes:
    name: of `codebooks`.
    signed: which of its maps.
    rounding: "nearest", "stochastic" or "preconditioner".
    calibrated: see `codebooks.Rounding`.
  """

  name: str
  signed: bool
  rounding: str = "nearest"
  calibrated: bool = False

  @property
  def draws(self) -> bool:
    """Whether storing takes random numbers."""
    return self.rounding != "nearest"


@dataclasses.dataclass(frozen=True)
class Moment:
  """What the rounding of a field depends on, at a step.

  Attributes:
    number: of the step: how many draws came before.
    correction: see `codebooks.Rounding`; for "preconditioner" alone.
    eps: likewise.
  """

  number: Any = 0
  correction: Any = None
  eps: Any = 0.0


@dataclasses.dataclass(frozen=True)
class Coding:
  """Which leaves of a state are held, and how.

  Attributes:
    block_size: entries that share a scale.
    min_size: leaves with fewer entries are not held.
    block_layout: "rows" or "flat".
    keep: regular expression on the paths of parameters that are not held.
    signed: the code of fields with signs.
    unsigned: that of fields without.
    non_negative: which have none.
    exact: which are not held.
    sign_repair: see `blockwise.quantize_blockwise`.
    seed: of what is drawn.
  """

  block_size: int
  min_size: int
  block_layout: str
  keep: str | None
  signed: Code
  unsigned: Code
  non_negative: Sequence[str] = ()
  exact: Sequence[str] = ()
  sign_repair: bool = True
  seed: int | Array = 0

  def code(self, field: str) -> Code:
    """Of a field of the state, by its name."""
    return self.unsigned if field in self.non_negative else self.signed

  def fits(self, path: str, leaf: Any, code: Code) -> bool:
    """Whether the state of this parameter is held in this code."""
    if not leaf.ndim or leaf.size < self.min_size:
      return False
    run = leaf.shape[-1] if self.block_layout == "rows" else leaf.size
    if run < min(_LEAST_BLOCK, self.block_size):
      return False
    if not codebooks.packs(leaf.shape, code.name):
      return False
    return self.keep is None or re.fullmatch(self.keep, path) is None

  def init(self, state: PyTree, params: PyTree) -> PyTree:
    """The state with its fields held: each a `Quantized` of two trees."""
    by_path = dict(groups.leaves(params))

    def is_field(node):
      return _is_quantized(node) or _is_field(params, node)

    def convert(field, node):
      if _is_quantized(node):  # By a quantize_state inside.
        return Quantized(node, optax.MaskedNode())
      code = self.code(field)
      pairs = [
        # Zeros need no draw, and other first states are rounded to the nearest.
        # Behind a barrier, or XLA computes the codes of constant zeros while it
        # compiles, entry by entry: half a minute per million.
        self._store(lax.optimization_barrier(leaf), code, codebooks.NEAREST)
        if not _is_masked(leaf)
        and field not in self.exact
        and _holds(by_path[path], leaf)
        and self.fits(path, by_path[path], code)
        else Quantized(leaf, optax.MaskedNode())
        for path, leaf in groups.leaves(node, is_leaf=_is_masked)
      ]
      return _zip(_entries(node)[1], pairs)

    flat = [
      convert(_last(path), node) if is_field(node) else node
      for path, node in groups.leaves(state, is_leaf=is_field)
    ]
    structure = jax.tree.structure(state, is_leaf=is_field)
    return structure.unflatten(flat)

  def widen(self, held: PyTree) -> PyTree:
    """The state as a transform knows it, float32."""
    fields, structure = _fields(held)
    return structure.unflatten(
      node if field is None else self._widen(field, node)
      for field, node in fields
    )

  def narrow(
    self,
    wide: PyTree,
    held: PyTree,
    moment: Moment | None = None,
    again: PyTree | None = None,
  ) -> PyTree:
    """The inverse, of a new state; what `held` holds is held again.

    `again` is the new state computed a second time, as for
    `blockwise.quantize_blockwise`.
    """
    fields, structure = _fields(held)
    wides, agains = (
      structure.flatten_up_to(wide if tree is None else tree)
      for tree in (wide, again)
    )
    return structure.unflatten(
      node
      if field is None
      else self._narrow(
        field, node, old, moment, None if again is None else second
      )
      for node, second, (field, old) in zip(wides, agains, fields, strict=True)
    )

  def _store(
    self,
    leaf: Array,
    code: Code,
    rounding: codebooks.Rounding,
    again: Array | None = None,
  ) -> Quantized:
    return blockwise.quantize_blockwise(
      leaf,
      self.block_size,
      code.signed,
      block_layout=self.block_layout,
      sign_repair=self.sign_repair and code.signed,
      code=code.name,
      rounding=rounding._replace(calibrated=code.calibrated),
      again=again,
    )

  def _rounding(
    self, leaf: Array, code: Code, path: str, moment: Moment | None
  ) -> codebooks.Rounding:
    if not code.draws:
      return codebooks.NEAREST
    assert moment is not None
    uniform = draws.uniform(path, leaf.shape, moment.number, seed=self.seed)
    if code.rounding == "stochastic":
      return codebooks.Rounding(uniform)
    return codebooks.Rounding(uniform, moment.correction, moment.eps)

  def _widen(self, field: str, node: Quantized) -> PyTree:
    if _is_masked(node.absmax):
      return node.codes
    codes, structure = _entries(node.codes)
    scales, _ = _entries(node.absmax)
    code = self.code(field)
    return structure.unflatten(
      leaf
      if _is_masked(scale)
      else blockwise.dequantize_blockwise(
        Quantized(leaf, scale),
        self.block_size,
        code.signed,
        block_layout=self.block_layout,
        code=code.name,
      )
      for leaf, scale in zip(codes, scales, strict=True)
    )

  def _narrow(
    self,
    field: str,
    tree: PyTree,
    held: Quantized,
    moment: Moment | None,
    again: PyTree | None,
  ) -> Quantized:
    if _is_masked(held.absmax):
      return Quantized(tree, held.absmax)
    scales, structure = _entries(held.absmax)
    code = self.code(field)
    named = groups.leaves(tree, is_leaf=_is_masked)
    seconds = [None] * len(named) if again is None else _entries(again)[0]
    pairs = [
      Quantized(leaf, scale)
      if _is_masked(scale)
      else self._store(
        leaf,
        code,
        self._rounding(leaf, code, f"{field}/{path}", moment),
        second if leaf.size >= _LEAST_AGAIN else None,
      )
      for (path, leaf), scale, second in zip(
        named, scales, seconds, strict=True
      )
    ]
    return _zip(structure, pairs)


def _fields(held: PyTree) -> tuple[list[tuple[str | None, Any]], Any]:
  """(name of the field, or None where it is not held; its node), structure."""
  found = [
    (_last(path) if _is_quantized(node) else None, node)
    for path, node in groups.leaves(held, is_leaf=_is_quantized)
  ]
  return found, jax.tree.structure(held, is_leaf=_is_quantized)


def _is_quantized(node: Any) -> bool:
  return isinstance(node, Quantized)


def _is_masked(node: Any) -> bool:
  return isinstance(node, optax.MaskedNode)


def _entries(tree: PyTree) -> tuple[list[Any], Any]:
  """Leaves and structure, where a MaskedNode is a leaf too."""
  return jax.tree.flatten(tree, is_leaf=_is_masked)


def _is_leaf(node: Any) -> bool:
  return jax.tree_util.all_leaves([node])


def _holds(parameter: Any, leaf: Any) -> bool:
  """Whether a leaf of the state has a number for every entry."""
  is_float = jnp.issubdtype(leaf.dtype, jnp.floating)
  return is_float and leaf.shape == parameter.shape


def _is_field(params: PyTree, node: Any) -> bool:
  """Whether a part of the state has an entry for every parameter.

  A MaskedNode is that of all parameters in its place.
  """
  entries, structure = _entries(node)
  try:
    parts = structure.flatten_up_to(params)
  except ValueError:
    return False
  if _is_leaf(params) and not _is_masked(node):
    # Any array has the tree of a lone parameter.
    return _holds(params, node)
  pairs = zip(entries, parts, strict=True)
  return all(_is_masked(entry) or _is_leaf(part) for entry, part in pairs)


def _zip(structure: Any, pairs: Sequence[Quantized]) -> Quantized:
  """Two trees from the pair of each leaf."""
  return Quantized(
    structure.unflatten([pair.codes for pair in pairs]),
    structure.unflatten([pair.absmax for pair in pairs]),
  )


def _last(path: str) -> str:
  return path.rpartition("/")[2]
