"""Which leaf gets which policy: by ordered rules on paths, or by a tree.

A path is the keys from the root joined by "/": "layers/0/attention/query/
kernel". It is the same for nested dicts, Linen's dicts and NNX states.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import optax
from jax.tree_util import GetAttrKey

from normjax import errors
from normjax.types import PyTree

# Gains and offsets, also where they have two axes: the biases of Flax's
# attention do.
VECTOR_NAMES = (
  r"(.*/)?(bias|\w+_bias|scale|gain|alpha|beta|gamma|lam|sink|temperature"
  r"|(cls|class|mask|register)_tokens?)"
)
EMBEDDING_NAMES = (
  r"(.*/)?(\w+_)?(embed|embedding|embeddings|embedder|embed_tokens|wte|wpe)"
  r"(_\d+)?(/.*)?"
)
HEAD_NAMES = (
  r"(.*/)?((lm_|output_|classifier_)?head|logits|classifier|unembed|unembedding"
  r"|readout|output_layer)(_\d+)?(/.*)?"
)


def _key_name(key: Any) -> str:
  for attribute in ("key", "idx", "name"):
    if hasattr(key, attribute):
      return str(getattr(key, attribute))
  return str(key)


def _path(keys: Sequence[Any]) -> str:
  # The leaf of an NNX state sits in its Variable's `value`.
  if keys and keys[-1] == GetAttrKey("value"):
    keys = keys[:-1]
  return "/".join(_key_name(key) for key in keys)


def leaves(
  tree: PyTree, is_leaf: Callable[[Any], bool] | None = None
) -> list[tuple[str, Any]]:
  """(path, leaf) of every leaf, in the order of `jax.tree.leaves`."""
  flat, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_leaf)
  return [(_path(keys), leaf) for keys, leaf in flat]


def show(path: str) -> str:
  """The path as messages print it; the root has none."""
  return repr(path) if path else "(the root)"


def match(rules: Sequence[tuple[str, Any]], path: str) -> Any:
  """The policy of the first rule whose pattern matches the whole path.

  Args:
    rules: (regular expression, policy), the first match wins.
    path: of a leaf.

  Raises:
    UserError: no rule matches; the message names the leaf.
  """
  for pattern, policy in rules:
    if re.fullmatch(pattern, path):
      return policy
  raise errors.UserError(
    f"no rule matches the leaf {show(path)}; patterns:"
    f" {', '.join(repr(pattern) for pattern, _ in rules)}."
    " End the rules with '.*' to catch what is left."
  )


def match_tree(
  rules: Sequence[tuple[str, Any]], tree: PyTree
) -> Mapping[str, Any]:
  """Path of each leaf to its policy; see `match`."""
  return {path: match(rules, path) for path, _ in leaves(tree)}


def align(
  what: str,
  spec: PyTree,
  tree: PyTree,
  is_leaf: Callable[[Any], bool] | None = None,
) -> list[Any]:
  """The value of `spec` for every leaf of `tree`, in order.

  `spec` has the structure of `tree` or is a prefix of it: one value for a
  whole subtree.

  Raises:
    UserError: a leaf without a value, or a value without a leaf.
  """
  values = dict(leaves(spec, is_leaf=is_leaf))
  used = set()
  aligned = []
  for path, _ in leaves(tree):
    parts = path.split("/")
    prefixes = ["/".join(parts[:n]) for n in range(len(parts), -1, -1)]
    found = next((prefix for prefix in prefixes if prefix in values), None)
    if found is None:
      raise errors.UserError(
        f"{what} has no entry for the leaf {show(path)}; its entries:"
        f" {', '.join(map(show, values)) or 'none'}."
      )
    used.add(found)
    aligned.append(values[found])
  # optax.partition hides the leaves of other groups, which have entries too.
  if used and not _has_masked(tree):
    for path in values:
      if path not in used:
        raise errors.UserError(
          f"{what} has an entry for {show(path)}, where there is no leaf."
        )
  return aligned


def _has_masked(tree: PyTree) -> bool:
  def masked(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)

  return any(map(masked, jax.tree.leaves(tree, is_leaf=masked)))


_DECAY_RULES = ((VECTOR_NAMES, False), (".*", True))


def decay_mask(params: PyTree) -> PyTree:
  """True for matrices and embeddings, false for gains, offsets and biases."""
  flat = [
    jax.numpy.ndim(leaf) > 1 and match(_DECAY_RULES, path)
    for path, leaf in leaves(params)
  ]
  return jax.tree.structure(params).unflatten(flat)


def resolve_mask(
  mask: Any,
  params: PyTree,
  *,
  name: str = "mask",
  default: Callable[[PyTree], PyTree] = decay_mask,
) -> list[bool]:
  """Whether each leaf is decayed, or what else `name` says, in order.

  Args:
    mask: "default" for `default`, None for every leaf, a tree of booleans
      of the structure of `params` or a prefix of it, or a function from
      params to such a tree.
    params: the tree.
    name: of the option, for messages.
    default: what "default" stands for.

  Raises:
    UserError: another structure, or another string.
    TypeError: a leaf of the mask that is not a boolean.
  """
  if mask is None:
    return [True] * len(jax.tree.leaves(params))
  if isinstance(mask, str):
    if mask != "default":
      raise errors.UserError(
        f"{name}={mask!r}; allowed: 'default', None, a tree of booleans or a"
        " function that makes one."
      )
    mask = default
  tree = mask(params) if callable(mask) else mask
  flags = align(name, tree, params)
  for (path, _), flag in zip(leaves(params), flags, strict=True):
    if not isinstance(flag, bool):
      raise TypeError(
        f"{name}: the entry of {show(path)} is {flag!r}; allowed: True, False."
      )
  return flags
