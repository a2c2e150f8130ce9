"""The state of any transform in 8 bits: Dettmers et al., arXiv:2110.02861."""

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from normjax import validate
from normjax.optim import blockwise, compose, groups, meshes, safe
from normjax.optim.blockwise import Quantized
from normjax.types import PyTree

__all__ = ["quantize_state"]

BLOCK_SIZE = 256
MIN_SIZE = 4096
# Fields of optax's states that hold means or sums of squares.
NON_NEGATIVE = ("nu", "nu_max", "sum_of_squares")
# A short row has too few entries to share its absmax: 1 + 4/8 bytes each.
_LEAST_BLOCK = 8


class QuantizeState(NamedTuple):
  """State of `quantize_state`."""

  # The wrapped state, but each of its fields that is shaped as the parameters
  # is a `Quantized` of two such trees. `codes` has the leaf itself, and
  # `absmax` MaskedNode, where a leaf is not held in 8 bits. Not a `Quantized`
  # in place of a leaf: NNX takes such a leaf apart.
  inner: PyTree


def _fits(
  path: str,
  leaf: Any,
  block_size: int,
  min_size: int,
  block_layout: str,
  keep: str | None,
) -> bool:
  """Whether the state of this parameter is held in 8 bits."""
  if not leaf.ndim or leaf.size < min_size:
    return False
  run = leaf.shape[-1] if block_layout == "rows" else leaf.size
  if run < min(_LEAST_BLOCK, block_size):
    return False
  return keep is None or re.fullmatch(keep, path) is None


def _sizes(
  method: str, block_size: int | None, min_size: int | None
) -> tuple[int, int]:
  return (
    validate.count(method, "block_size", block_size, default=BLOCK_SIZE),
    validate.count(method, "min_size", min_size, least=0, default=MIN_SIZE),
  )


def _check_names(**fields: Any) -> None:
  for name, value in fields.items():
    if isinstance(value, str) or not isinstance(value, Sequence):
      validate.refuse_type("quantize_state", name, value, "a sequence of names")


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


@validate.options
def quantize_state(
  inner: optax.GradientTransformation,
  block_size: int | None = BLOCK_SIZE,
  min_size: int | None = MIN_SIZE,
  *,
  block_layout: str = "rows",
  keep: str | None = groups.EMBEDDING_NAMES,
  unsigned: Sequence[str] = NON_NEGATIVE,
  exact: Sequence[str] = (),
  sign_repair: bool = True,
) -> optax.GradientTransformationExtraArgs:
  """Holds what `inner` remembers of each parameter in 8 bits.

      u, s = inner.update(g, dequantize(state), w);  state = quantize(s)

  arXiv:2110.02861: the step uses the fresh state, rounding comes after. Rounded
  is what has the tree of the parameters and, leaf by leaf, their shapes: each
  such field of the state becomes a `Quantized` of a tree of codes and a tree of
  scales. `inner` sees gradients, parameters and state in float32, and what is
  not quantised stays in it: counts, scalars, small leaves, embeddings.

  A block cannot hold an outlier: beside an entry with a gradient 1e4 times
  theirs, the others' second moments are rounded to 0, and their next steps are
  some 100 times too long, as with bitsandbytes. Clip gradients before.

  Args:
    inner: any transform whose state is a tree of arrays.
    block_size: entries that share a float32 scale, >= 1; None stands for 256.
    min_size: leaves with fewer entries, over all devices, stay in float32; so
      do those with blocks below 8 entries. None stands for 4096.
    block_layout: "rows" or "flat", see `quantize_blockwise`.
    keep: regular expression on parameter paths that stay in float32; the
      default is embeddings, whose 8-bit states the authors found unstable.
      None keeps none.
    unsigned: fields of the state, as "nu" in `optax.ScaleByAdamState`, that are
      never negative and use the unsigned map, with twice the codes. A negative
      entry there is stored as 0. Other names are taken to be signed.
    exact: fields of the state that stay in float32, such as a copy of the
      parameters.
    sign_repair: see `quantize_blockwise`; for the signed fields.

  Returns:
    A transform; updates in the dtype of the gradients. NaN and infinite
    entries of the state are stored as 0.

  Raises:
    UserError: a number out of range, another layout.
    TypeError: an option or a leaf of another type.
  """
  method = "quantize_state"
  block_size, min_size = _sizes(method, block_size, min_size)
  blockwise.check(method, block_size, block_layout)
  _check_names(unsigned=unsigned, exact=exact)
  inner = optax.with_extra_args_support(inner)

  def fits(path, leaf):
    return _fits(path, leaf, block_size, min_size, block_layout, keep)

  def is_signed(field: str) -> bool:
    return field not in unsigned

  def store(leaf, field):
    signed = is_signed(field)
    return blockwise.quantize_blockwise(
      leaf,
      block_size,
      signed,
      block_layout=block_layout,
      sign_repair=sign_repair and signed,
    )

  def load(quantized, field):
    return blockwise.dequantize_blockwise(
      quantized, block_size, is_signed(field), block_layout=block_layout
    )

  def init(params):
    groups.check_leaves(method, params)
    state = inner.init(jax.tree.map(safe.promote, params))

    def is_field(node):
      return _is_quantized(node) or _is_field(params, node)

    by_path = dict(groups.leaves(params))

    def convert(field, node):
      if _is_quantized(node):  # By a quantize_state inside.
        return Quantized(node, optax.MaskedNode())
      pairs = [
        store(leaf, field)
        if not _is_masked(leaf)
        and field not in exact
        and _holds(by_path[path], leaf)
        and fits(path, by_path[path])
        else Quantized(leaf, optax.MaskedNode())
        for path, leaf in groups.leaves(node, is_leaf=_is_masked)
      ]
      return _zip(_entries(node)[1], pairs)

    flat = [
      convert(_last(path), node) if is_field(node) else node
      for path, node in groups.leaves(state, is_leaf=is_field)
    ]
    structure = jax.tree.structure(state, is_leaf=is_field)
    return meshes.place(QuantizeState(structure.unflatten(flat)), params)

  def widen(field, node):
    if _is_masked(node.absmax):
      return node.codes
    codes, structure = _entries(node.codes)
    scales, _ = _entries(node.absmax)
    return structure.unflatten(
      leaf if _is_masked(scale) else load(Quantized(leaf, scale), field)
      for leaf, scale in zip(codes, scales, strict=True)
    )

  def narrow(field, tree, held):
    """The tree with what `held` holds in 8 bits in 8 bits."""
    if _is_masked(held.absmax):
      return Quantized(tree, held.absmax)
    leaves, structure = _entries(tree)
    scales, _ = _entries(held.absmax)
    pairs = [
      Quantized(leaf, scale) if _is_masked(scale) else store(leaf, field)
      for leaf, scale in zip(leaves, scales, strict=True)
    ]
    return _zip(structure, pairs)

  def update(updates, state, params=None, **extra_args):
    held = [
      (_last(path) if _is_quantized(node) else None, node)
      for path, node in groups.leaves(state.inner, is_leaf=_is_quantized)
    ]
    structure = jax.tree.structure(state.inner, is_leaf=_is_quantized)
    wide = structure.unflatten(
      node if field is None else widen(field, node) for field, node in held
    )
    direction, wide = inner.update(
      jax.tree.map(safe.promote, updates),
      wide,
      None if params is None else jax.tree.map(safe.promote, params),
      **extra_args,
    )
    new = structure.unflatten(
      node if field is None else narrow(field, node, old)
      for node, (field, old) in zip(
        structure.flatten_up_to(wide), held, strict=True
      )
    )
    return compose.cast_like(direction, updates), QuantizeState(new)

  return optax.GradientTransformationExtraArgs(init, update)


def describe_bits(
  name: str, params: PyTree, options: Mapping[str, Any]
) -> Mapping[str, str]:
  """Path of each leaf to `name` and the bits of its state.

  Args:
    name: of the update.
    params: arrays, or their shapes and dtypes.
    options: those of `quantize_state` that are not its defaults.
  """
  defaults = inspect.signature(quantize_state).parameters
  block_layout, keep = (
    options.get(key, defaults[key].default) for key in ("block_layout", "keep")
  )
  sizes = _sizes(name, options.get("block_size"), options.get("min_size"))
  chosen = *sizes, block_layout, keep
  return {
    path: f"{name} ({8 if _fits(path, leaf, *chosen) else 32}-bit state)"
    for path, leaf in groups.leaves(params)
  }
