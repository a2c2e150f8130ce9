"""Which leaf gets which policy: by ordered rules on paths, or by a tree.

A path is the keys from the root joined by "/": "layers/0/attention/query/
kernel". It is the same for nested dicts, Linen's dicts and NNX states.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import GetAttrKey

from normjax import errors
from normjax.types import PyTree

# A module whose `weight` is a gain, as PyTorch and Equinox call it.
_NORM_MODULE = r"(\w*[nN]orm(_?\w)?|ln_?\w?|\w*_ln|bn)\d*(_\d+)?"
# Gains and offsets, also where they have two axes: the biases of Flax's
# attention do, and so does every vector of a scanned layer. Tokens, the probe
# of a pooling head and Mamba's A_log are no matrices either.
VECTOR_NAMES = (
  r"(.*/)?(bias|\w+_bias|scale|gain|alpha|beta|gamma|offset|lam|sink"
  r"|temperature|A_log|cls|probe|(cls|class|mask|register)_tokens?"
  rf"|{_NORM_MODULE}(/\d+)?/weight)(/\d+)?"
)
EMBEDDING_NAMES = (
  r"(.*/)?(\w+_)?(embed|embedding|embeddings|embedder|embed_tokens|wte|wpe)"
  r"(_\d+)?(/.*)?"
)
HEAD_NAMES = (
  r"(.*/)?((lm_|output_|classifier_)?head|(to_)?logits|logits?_?dense"
  r"|classifier|unembed|unembedding|readout|output_layer)(_\d+)?(/.*)?"
)
# What writes to a transformer's stream: the last kernels of its branches.
WRITER_NAMES = (
  r"(.*/)?(o|out|wo|w2|fc2|fc_out|down|(o|c|out|output|down)_proj)"
  r"(/(kernel|weight|w))?(/\d+)?"
)
# What holds one parameter: its `value` is not part of the path.
_BOXES = {
  ("flax.nnx.variablelib", "Variable"),
  ("flax.core.meta", "AxisMetadata"),
}


def _key_name(key: Any) -> str:
  for attribute in ("key", "idx", "name"):
    if hasattr(key, attribute):
      return str(getattr(key, attribute))
  return str(key)


def _is_box(node: Any) -> bool:
  # By name: Flax is not imported here.
  kinds = {(kind.__module__, kind.__name__) for kind in type(node).__mro__}
  return not kinds.isdisjoint(_BOXES)


def leaves(
  tree: PyTree, is_leaf: Callable[[Any], bool] | None = None
) -> list[tuple[str, Any]]:
  """(path, leaf) of every leaf, in the order of `jax.tree.leaves`."""
  flatten = jax.tree_util.tree_flatten_with_path
  flat, _ = flatten(tree, is_leaf=is_leaf)
  value = GetAttrKey("value")
  boxes = set()
  if any(keys and keys[-1] == value for keys, _ in flat):
    boxed, _ = flatten(tree, is_leaf=_is_box)
    boxes = {keys for keys, node in boxed if _is_box(node)}

  def path(keys):
    if keys and keys[-1] == value and keys[:-1] in boxes:
      keys = keys[:-1]
    return "/".join(map(_key_name, keys))

  return [(path(keys), leaf) for keys, leaf in flat]


def owner(path: str, params: Collection[str]) -> str:
  """The parameter that a leaf of an optimizer's state is of.

  An optimizer maps its functions over the parameters, so that the path of one
  is part of the paths of what is kept of it: at their ends, as in a tree of
  moments, or before them, as where each parameter has a state of its own.

  Args:
    path: of the leaf.
    params: paths of parameters.

  Returns:
    The longest of them that is part of `path`; "": none is, since the leaf is
    of several or of none.
  """
  keys = path.split("/")
  for size in range(len(keys), 0, -1):
    for start in range(len(keys) - size + 1):
      name = "/".join(keys[start : start + size])
      if name in params:
        return name
  return ""


def is_function(spec: Any) -> bool:
  """Whether a mask, or dims, is a function of params and not a tree.

  A tree may be callable too, as an Equinox module is: like optax, what counts
  is whether its leaves are.
  """
  if isinstance(spec, jax.tree_util.Partial):
    return True
  flat = jax.tree.leaves(spec)
  return callable(spec) and bool(flat) and all(map(callable, flat))


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
  whole subtree. It may have values where `tree` has None, an empty subtree or
  what `optax.partition` hides.

  Raises:
    UserError: a leaf without a value, or a value without a place.
  """
  values = dict(leaves(spec, is_leaf=is_leaf))
  used = set()
  aligned = []
  for path, _ in leaves(tree):
    prefixes = _prefixes(path)
    found = next((prefix for prefix in prefixes if prefix in values), None)
    if found is None:
      raise errors.UserError(
        f"{what} has no entry for the leaf {show(path)}; its entries:"
        f" {', '.join(map(show, values)) or 'none'}."
      )
    used.add(found)
    aligned.append(values[found])
  unused = [path for path in values if path not in used]
  if unused:
    empty = [path for path, node in leaves(tree, _is_empty) if _is_empty(node)]
    above = {prefix for path in empty for prefix in _prefixes(path)}
    for path in unused:
      if path not in above and set(empty).isdisjoint(_prefixes(path)):
        raise errors.UserError(
          f"{what} has an entry for {show(path)}, where there is no leaf."
        )
  return aligned


def _prefixes(path: str) -> list[str]:
  """The path, its parents and the root."""
  parts = path.split("/")
  return ["/".join(parts[:n]) for n in range(len(parts), -1, -1)]


def _is_empty(node: Any) -> bool:
  # None, optax.MaskedNode, {}: a subtree without a leaf.
  return not jax.tree.leaves(node)


# Vectors only beside another leaf, with so many axes less: Haiku's bias,
# Mamba's skip connection.
_BESIDE = {"b": ("w", 1), "D": ("A_log", 0)}


def vectors(named: Sequence[tuple[str, Any]]) -> list[bool]:
  """Whether names say of each leaf that it is no matrix, whatever its axes.

  Args:
    named: what `leaves` gives.
  """
  ndims = {path: jnp.ndim(leaf) for path, leaf in named}

  def is_vector(path):
    if re.fullmatch(VECTOR_NAMES, path):
      return True
    parent, _, name = path.rpartition("/")
    if name not in _BESIDE:
      return False
    beside, fewer_axes = _BESIDE[name]
    other = f"{parent}/{beside}".removeprefix("/")
    return other in ndims and ndims[path] + fewer_axes <= ndims[other]

  return [is_vector(path) for path, _ in named]


def check_leaves(method: str, params: PyTree) -> None:
  """Checks that every leaf is a real floating-point array.

  Raises:
    WrongTypeError: an integer, complex or other leaf; the message names it.
  """
  for path, leaf in leaves(params):
    dtype = getattr(leaf, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
      what = type(leaf).__name__ if dtype is None else dtype
      raise errors.WrongTypeError(
        f"{method}: the leaf {show(path)} is {what}; allowed:"
        " floating-point arrays. Mask others with optax.masked."
      )
