"""Which leaves a decay is meant for: by names, or by a tree of booleans."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from normjax import errors, validate
from normjax.optim import groups
from normjax.registry import near_misses
from normjax.types import PyTree

__all__ = ["decay_mask", "selective_decay"]

_INPUT_NORM = r"(\w*input_(layer)?norm|ln_?[12])(_\d+)?/\w+"
_READER_SCALE = r"(query|key|value|gate|up)_scale(/\w+)?"
INPUT_SCALE_NAMES = rf"(.*/)?({_INPUT_NORM}|{_READER_SCALE})"
_BIAS_NAMES = r"(.*/)?(\w+_)?(bias|beta|offset)"


def decay_mask(params: PyTree) -> PyTree:
  """True for matrices and embeddings, false for gains, offsets and biases."""
  named = groups.leaves(params)
  flags = [
    jnp.ndim(leaf) > 1 and not vector
    for (_, leaf), vector in zip(named, groups.vectors(named), strict=True)
  ]
  return jax.tree.structure(params).unflatten(flags)


def selective_decay(
  input_norms: str = INPUT_SCALE_NAMES,
  others: Callable[[PyTree], PyTree] = decay_mask,
) -> Callable[[PyTree], PyTree]:
  """A mask: matrices and the scales of input norms decay, other vectors don't.

  arXiv:2605.26895 finds the decay of scale vectors beneficial in norms that
  feed a projection (input norms), harmful in those applied to the output of a
  block. What it says of final norms and of those of queries and keys was not
  available; like output norms, they do not decay here. Nor do offsets and
  biases. Of a gain that is magnitude times direction the magnitude decays: the
  gain does not change with the length of its direction.

  Args:
    input_norms: pattern of the leaves of input norms, and of the gains that
      stand for theirs; the default knows `*_input_norm`, `input_layernorm`,
      GPT-2's `ln_1`, `ln_2`, and what `reader_scales` of our models makes.
    others: which of the other leaves decay.

  Returns:
    What `mask` of every optimizer takes; by name it is "input_scales".
  """
  validate.pattern("selective_decay", "input_norms", input_norms)
  rules = (
    (_BIAS_NAMES, False),
    (rf"(?=(?:{input_norms})\Z)(.*/)?direction", False),
    (input_norms, True),
    (".*", None),
  )

  def mask(params: PyTree) -> PyTree:
    chosen = groups.match_tree(rules, params).values()
    default, structure = jax.tree.flatten(others(params))
    return structure.unflatten(
      other if flag is None else flag
      for flag, other in zip(chosen, default, strict=True)
    )

  return mask


def _every_leaf(params: PyTree) -> PyTree:
  return jax.tree.map(lambda leaf: True, params)


# The masks that have a name.
NAMED: Mapping[str, Callable[[PyTree], PyTree]] = {
  "default": decay_mask,
  "all": _every_leaf,
  "input_scales": selective_decay(),
}


def resolve_mask(
  mask: Any,
  params: PyTree,
  *,
  name: str = "mask",
  named: Mapping[str, Callable[[PyTree], PyTree]] = NAMED,
) -> list[bool]:
  """Whether each leaf is decayed, or what else `name` says, in order.

  Args:
    mask: a name of `named`, None for every leaf, a tree of booleans of the
      structure of `params` or a prefix of it, or a function from params to such
      a tree.
    params: the tree.
    name: of the option, for messages.
    named: the functions that have a name.

  Raises:
    UserError: another structure, or a name that is none.
    TypeError: a leaf of the mask that is not a boolean.
  """
  if mask is None:
    mask = _every_leaf
  if isinstance(mask, str):
    if mask not in named:
      raise errors.UserError(
        f"{name}={mask!r}; allowed: {', '.join(map(repr, named))}, None, a tree"
        f" of booleans or a function that makes one.{near_misses(mask, named)}"
      )
    mask = named[mask]
  tree = mask(params) if groups.is_function(mask) else mask
  flags = groups.align(name, tree, params)
  for (path, _), flag in zip(groups.leaves(params), flags, strict=True):
    if not isinstance(flag, bool):
      raise errors.WrongTypeError(
        f"{name}: the entry of {groups.show(path)} is {flag!r}; allowed: True,"
        " False."
      )
  return flags
