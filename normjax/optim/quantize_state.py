"""The state of any transform in 8 bits: Dettmers et al., arXiv:2110.02861."""

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from normjax import errors
from normjax.optim import blockwise, compose, groups, safe, validate
from normjax.optim.blockwise import Quantized
from normjax.types import PyTree

# Fields of optax's states that hold means or sums of squares.
NON_NEGATIVE = ("nu", "nu_max", "sum_of_squares")
# A short row has too few entries to share its absmax: 1 + 4/8 bytes each.
_LEAST_BLOCK = 8


class QuantizeState(NamedTuple):
  """State of `quantize_state`."""

  # The wrapped state; a `Quantized` where a leaf is held in 8 bits.
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


def _check_names(keep: Any, **fields: Any) -> None:
  try:
    re.compile(keep or "")
  except re.error as error:
    raise errors.UserError(
      f"quantize_state: keep={keep!r}; allowed: a regular expression ({error})."
    ) from None
  for name, value in fields.items():
    if isinstance(value, str) or not isinstance(value, Sequence):
      raise TypeError(
        f"quantize_state: {name}={value!r}; allowed: a sequence of names."
      )


def _is_quantized(node: Any) -> bool:
  return isinstance(node, Quantized)


def _owner(path: str, parameters: Mapping[str, Any], leaf: Any) -> str | None:
  """The longest path of a parameter that ends `path` and has its shape."""
  parts = path.split("/")
  for start in range(len(parts) + 1):
    owner = "/".join(parts[start:])
    if owner in parameters and parameters[owner].shape == leaf.shape:
      return owner
  return None


def _field(path: str, owner: str) -> str:
  """The field of a state in which the leaf of this parameter is."""
  prefix = path.removesuffix(owner).rstrip("/")
  return prefix.rpartition("/")[2]


def quantize_state(
  inner: optax.GradientTransformation,
  block_size: int = 256,
  min_size: int = 4096,
  *,
  block_layout: str = "rows",
  keep: str | None = groups.EMBEDDING_NAMES,
  unsigned: Sequence[str] = NON_NEGATIVE,
  exact: Sequence[str] = (),
  sign_repair: bool = True,
) -> optax.GradientTransformationExtraArgs:
  """Holds what `inner` remembers of each parameter in 8 bits.

      u, s = inner.update(g, dequantize(state), w);  state = quantize(s)

  arXiv:2110.02861: the step uses the fresh state, rounding comes after. A leaf
  of the state belongs to the parameter whose path ends its own and whose shape
  it has. `inner` sees gradients, parameters and state in float32, and what is
  not quantised stays in it: counts, scalars, small leaves, embeddings.

  Args:
    inner: any transform whose state is a tree of arrays.
    block_size: entries that share a float32 scale, >= 1.
    min_size: leaves with fewer entries, over all devices, stay in float32; so
      do those with blocks below 8 entries.
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
  blockwise.check(method, block_size, block_layout)
  validate.count(method, "min_size", min_size, least=0)
  _check_names(keep, unsigned=unsigned, exact=exact)
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
    validate.leaves(method, params)
    state = inner.init(jax.tree.map(safe.promote, params))
    parameters = dict(groups.leaves(params))

    def convert(path, leaf):
      owner = _owner(path, parameters, leaf)
      is_float = jnp.issubdtype(leaf.dtype, jnp.floating)
      if owner is None or not is_float or not fits(owner, leaf):
        return leaf
      field = _field(path, owner)
      return leaf if field in exact else store(leaf, field)

    flat = [convert(path, leaf) for path, leaf in groups.leaves(state)]
    return QuantizeState(jax.tree.structure(state).unflatten(flat))

  def update(updates, state, params=None, **extra_args):
    parameters = dict(groups.leaves(updates))
    held = groups.leaves(state.inner, is_leaf=_is_quantized)
    fields = []
    for path, leaf in held:
      quantized = _is_quantized(leaf)
      owner = _owner(path, parameters, leaf.codes) if quantized else None
      fields.append(None if owner is None else _field(path, owner))
    structure = jax.tree.structure(state.inner, is_leaf=_is_quantized)
    wide = structure.unflatten(
      [
        leaf if field is None else load(leaf, field)
        for (_, leaf), field in zip(held, fields, strict=True)
      ]
    )
    direction, wide = inner.update(
      jax.tree.map(safe.promote, updates),
      wide,
      None if params is None else jax.tree.map(safe.promote, params),
      **extra_args,
    )
    new = structure.unflatten(
      [
        leaf if field is None else store(leaf, field)
        for leaf, field in zip(
          structure.flatten_up_to(wide), fields, strict=True
        )
      ]
    )
    return compose.cast_like(direction, updates), QuantizeState(new)

  return optax.GradientTransformationExtraArgs(init, update)


def held_as(
  name: str, params: PyTree, options: Mapping[str, Any]
) -> Mapping[str, str]:
  """Path of each leaf to `name` and the bits of its state.

  Args:
    name: of the update.
    params: arrays, or their shapes and dtypes.
    options: those of `quantize_state` that are not its defaults.
  """
  defaults = inspect.signature(quantize_state).parameters
  chosen = [
    options.get(key, defaults[key].default)
    for key in ("block_size", "min_size", "block_layout", "keep")
  ]
  return {
    path: f"{name} ({8 if _fits(path, leaf, *chosen) else 32}-bit state)"
    for path, leaf in groups.leaves(params)
  }
