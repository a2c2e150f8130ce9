"""Statistics of tensors chosen by path patterns.

A probe is a regular expression searched in names such as
"activation/layers/0/attention/output", "gradient/layers/0/…/kernel",
"update/…" and "effective_learning_rate/…".
"""

import re
from collections.abc import Iterable, Mapping
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


def check(patterns: Iterable[str]) -> tuple[str, ...]:
  """The patterns, each known to compile.

  Raises:
    UserError: a pattern is no regular expression.
  """
  patterns = tuple(patterns)
  for pattern in patterns:
    try:
      re.compile(pattern)
    except re.error as error:
      raise errors.UserError(
        f"log.probes: {pattern!r} is not a regular expression: {error}"
      ) from error
  return patterns


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
  return any(re.search(pattern, name) for pattern in patterns)


def statistics(
  kind: str, tree: PyTree, patterns: tuple[str, ...]
) -> dict[str, Array]:
  """Mean, root mean square and largest magnitude of the chosen leaves.

  Args:
    kind: "activation", "gradient" or "update"; begins every name.
    tree: leaves of any shape; statistics are float32.
    patterns: regular expressions.

  Returns:
    `{"<kind>/<path>/mean": …, "…/rms": …, "…/max": …}`.
  """
  values = {}
  for path, leaf in jax.tree.leaves_with_path(tree):
    name = f"{kind}/{path_name(path)}"
    if _matches(name, patterns):
      leaf = leaf.astype(jnp.float32)
      values[f"{name}/mean"] = jnp.mean(leaf)
      values[f"{name}/rms"] = jnp.sqrt(jnp.mean(jnp.square(leaf)))
      values[f"{name}/max"] = jnp.max(jnp.abs(leaf))
  return values


def effective_learning_rate(
  updates: PyTree, params: PyTree, patterns: tuple[str, ...]
) -> dict[str, Array]:
  """||u|| / ||w|| of the chosen leaves.

  For a scale-invariant weight this is, to first order, the angle by which a
  step turns it: the effective learning rate (van Laarhoven 2017,
  arXiv:1706.05350).
  """
  values = {}
  weights: Mapping[Any, Array] = dict(jax.tree.leaves_with_path(params))
  for path, update in jax.tree.leaves_with_path(updates):
    name = f"effective_learning_rate/{path_name(path)}"
    if _matches(name, patterns):
      norm = jnp.linalg.norm(weights[path].astype(jnp.float32).ravel())
      step = jnp.linalg.norm(update.astype(jnp.float32).ravel())
      values[name] = step / jnp.maximum(norm, _TINY)
  return values
