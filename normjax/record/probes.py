"""Statistics of tensors chosen by path patterns.

A probe is a regular expression searched in names such as
"activation/layers/0/attention/output", "gradient/layers/0/…/kernel",
"gradient_norm/layers/0", "scale/final_norm/scale", "update/…",
"spectrum/…", "weight_norm/…" and "effective_learning_rate/…".
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from normjax import errors
from normjax.types import Array, PyTree

# 0 / 0 where a parameter is all zero: reported as 0, not NaN.
_TINY = 1e-30


def path_name(path: tuple[Any, ...]) -> str:
  """A tree path as "layers/0/kernel"."""
  return jax.tree_util.keystr(path, simple=True, separator="/")


def named_leaves(tree: PyTree) -> list[tuple[str, Any]]:
  """(path name, leaf) of every leaf, in the order of `jax.tree.leaves`."""
  return [
    (path_name(path), leaf) for path, leaf in jax.tree.leaves_with_path(tree)
  ]


def check(patterns: Iterable[str]) -> tuple[str, ...]:
  """The patterns, each known to compile.

  Raises:
    UserError: a pattern is no regular expression.
  """
  patterns = tuple(patterns)
  for pattern in patterns:
    if not pattern:
      raise errors.UserError(
        "log.probes: '' would match every name; '.' asks for all of them."
      )
    try:
      re.compile(pattern)
    except re.error as error:
      raise errors.UserError(
        f"log.probes: {pattern!r} is not a regular expression: {error}"
      ) from error
  return patterns


def matches(name: str, patterns: tuple[str, ...]) -> bool:
  """Whether one of the patterns is found in the name."""
  return any(re.search(pattern, name) for pattern in patterns)


def _chosen(
  kind: str, tree: PyTree, patterns: tuple[str, ...]
) -> Iterator[tuple[str, Array]]:
  """(name, leaf in float32) of the leaves that a pattern chooses."""
  for path, leaf in named_leaves(tree):
    if matches(f"{kind}/{path}", patterns):
      yield f"{kind}/{path}", leaf.astype(jnp.float32)


def chosen(
  kind: str, tree: PyTree, patterns: tuple[str, ...]
) -> dict[str, Array]:
  """The leaves that a pattern chooses by "<kind>/<path>", as they are."""
  return {
    f"{kind}/{path}": leaf
    for path, leaf in named_leaves(tree)
    if matches(f"{kind}/{path}", patterns)
  }


def any_chosen(kind: str, tree: PyTree, patterns: tuple[str, ...]) -> bool:
  """Whether a pattern chooses any leaf; shapes will do for leaves."""
  return any(
    matches(f"{kind}/{path}", patterns) for path, _ in named_leaves(tree)
  )


def statistics(
  kind: str, tree: PyTree, patterns: tuple[str, ...]
) -> dict[str, Array]:
  """Mean, variance, root mean square, largest magnitude of chosen leaves.

  Args:
    kind: "activation", "gradient" or "update"; begins every name.
    tree: leaves of any shape; statistics are float32.
    patterns: regular expressions.

  Returns:
    `{"<kind>/<path>/mean": …, "…/variance": …, "…/rms": …, "…/max": …}`.
  """
  values = {}
  for name, leaf in _chosen(kind, tree, patterns):
    values[f"{name}/mean"] = jnp.mean(leaf)
    values[f"{name}/variance"] = jnp.var(leaf)
    values[f"{name}/rms"] = jnp.sqrt(jnp.mean(jnp.square(leaf)))
    values[f"{name}/max"] = jnp.max(jnp.abs(leaf))
  return values


def _depth(path: str) -> str:
  """The path up to its first number, "layers/3"; else its first part."""
  parts = path.split("/")
  last = next((i for i, part in enumerate(parts) if part.isdigit()), 0)
  return "/".join(parts[: last + 1])


def norms_by_depth(
  kind: str, tree: PyTree, patterns: tuple[str, ...]
) -> dict[str, Array]:
  """The L2 norm over all leaves of a layer, and over what is in no layer.

  Args:
    kind: "gradient_norm"; begins every name.
    tree: paths such as "layers/3/attention/query/kernel" and "head/kernel".
    patterns: regular expressions, searched in the names returned.

  Returns:
    `{"<kind>/layers/3": …, "<kind>/head": …}`, float32.
  """
  squares: dict[str, Array] = {}
  for path, leaf in named_leaves(tree):
    name = f"{kind}/{_depth(path)}"
    if matches(name, patterns):
      square = jnp.sum(jnp.square(leaf.astype(jnp.float32)))
      squares[name] = squares.get(name, jnp.zeros(())) + square
  return {name: jnp.sqrt(square) for name, square in squares.items()}


def norm_parameters(
  params: PyTree, patterns: tuple[str, ...], norms: Collection[str]
) -> dict[str, Array]:
  """Statistics of the parameters of norms: how gains grow or shrink.

  Args:
    params: all of them.
    patterns: regular expressions.
    norms: paths of those that are norms', such as
      "layers/0/attention_input_norm/scale".

  Returns:
    `{"scale/<path>/mean": …, "…/rms": …, "…/min": …, "…/max": …}`; min and max
    are the extreme values, not magnitudes.
  """
  values = {}
  for name, leaf in _chosen("scale", params, patterns):
    if name.removeprefix("scale/") not in norms:
      continue
    values[f"{name}/mean"] = jnp.mean(leaf)
    values[f"{name}/rms"] = jnp.sqrt(jnp.mean(jnp.square(leaf)))
    values[f"{name}/min"] = jnp.min(leaf)
    values[f"{name}/max"] = jnp.max(leaf)
  return values


def spectrum(
  matrices: Mapping[str, Array], patterns: tuple[str, ...]
) -> dict[str, Array]:
  """What the singular values s of the chosen matrices look like.

      largest         s_1
      stable_rank     sum s_i^2 / s_1^2
      effective_rank  exp(-sum p_i log p_i), p_i = s_i / sum s_j

  The last is Roy and Vetterli's (EUSIPCO 2007). All are 0 for a matrix of
  zeros. The singular values are computed in float32, at every step: choose a
  few matrices, not all.

  Args:
    matrices: (batch, rows, columns) by path; of a batch, means are reported.
    patterns: regular expressions, searched in "spectrum/<path>".
  """
  values = {}
  for path, matrix in matrices.items():
    name = f"spectrum/{path}"
    if matches(name, patterns):
      found = describe_spectrum(*singular_values(matrix))
      values |= {f"{name}/{key}": value for key, value in found.items()}
  return values


def singular_values(matrix: Array) -> tuple[Array, Array]:
  """The singular values in units of a scale, and the scale.

  Divided first, so that no square underflows.

  Args:
    matrix: (batch, rows, columns).

  Returns:
    (batch, n), float32, the largest first; and (batch, 1, 1).
  """
  scale = jnp.maximum(jnp.max(jnp.abs(matrix), (1, 2), keepdims=True), _TINY)
  s_bi = jnp.linalg.svd((matrix / scale).astype(jnp.float32), compute_uv=False)
  return s_bi, scale


def describe_spectrum(s_bi: Array, scale: Array) -> dict[str, Array]:
  """`largest`, `stable_rank` and `effective_rank`, see `spectrum`.

  Args:
    s_bi: of `singular_values`.
    scale: likewise.
  """
  largest_b = s_bi[:, 0]
  p_bi = s_bi / jnp.maximum(jnp.sum(s_bi, 1, keepdims=True), _TINY)
  entropy_b = jnp.sum(jax.scipy.special.entr(p_bi), 1)
  stable_b = jnp.sum(jnp.square(s_bi), 1) / jnp.maximum(
    jnp.square(largest_b), _TINY
  )
  return {
    "largest": jnp.mean(largest_b * scale[:, 0, 0]),
    "stable_rank": jnp.mean(stable_b),
    "effective_rank": jnp.mean(
      jnp.where(largest_b > 0, jnp.exp(entropy_b), 0.0)
    ),
  }


def weight_norms(params: PyTree, patterns: tuple[str, ...]) -> dict[str, Array]:
  """The L2 norm ||w|| of each chosen leaf, float32."""
  return {
    name: jnp.linalg.norm(leaf.ravel())
    for name, leaf in _chosen("weight_norm", params, patterns)
  }


def effective_learning_rate(
  updates: PyTree, params: PyTree, patterns: tuple[str, ...]
) -> dict[str, Array]:
  """||u|| / ||w|| of the chosen leaves.

  For a scale-invariant weight this is, to first order, the angle by which a
  step turns it: the effective learning rate (van Laarhoven 2017,
  arXiv:1706.05350).
  """
  values = {}
  weights = dict(named_leaves(params))
  for path, update in named_leaves(updates):
    name = f"effective_learning_rate/{path}"
    if matches(name, patterns):
      norm = jnp.linalg.norm(weights[path].astype(jnp.float32).ravel())
      step = jnp.linalg.norm(update.astype(jnp.float32).ravel())
      values[name] = step / jnp.maximum(norm, _TINY)
  return values
