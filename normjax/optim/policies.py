"""Ordered rules (path pattern, policy): routing, rates and decay by path.

A pattern is a regular expression of the whole path, "layers/0/mlp/kernel";
the first that matches counts, and every leaf must match one: end the rules
with ".*". Paths are those of nested dicts, of Linen and of NNX alike; scanned
layers and experts are leaves with one more axis, under the same path.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import optax

from normjax import validate
from normjax.optim import groups
from normjax.types import Array, PyTree

__all__ = ["by_path", "partition_by_path", "scale_by_path"]


def by_path(rules: Sequence[tuple[str, Any]]) -> Callable[[PyTree], PyTree]:
  """A function from params to the tree of each leaf's policy.

  What `mask` and `dims` of every optimizer take, and the labels of
  `optax.partition`:

      mask = optim.by_path([(".*/kernel", True), (".*", False)])
      tx = optim.adamw(1e-3, mask=mask)

  Args:
    rules: (pattern, policy), in order.

  Returns:
    The function. It raises UserError, naming the leaf, where none matches.

  Raises:
    UserError: a pattern that is no regular expression.
    TypeError: rules that are no pairs.
  """
  _check_rules("by_path", rules)

  def policies(params: PyTree) -> PyTree:
    flat = [groups.match(rules, path) for path, _ in groups.leaves(params)]
    return jax.tree.structure(params).unflatten(flat)

  return policies


def scale_by_path(
  rules: Sequence[tuple[str, float | Array]],
) -> optax.GradientTransformationExtraArgs:
  """Multiplies each leaf's update by the number of the first matching rule.

      u *= factor

  After an optimizer it is a learning-rate multiplier, of the decay too:

      optax.chain(optim.adamw(1e-3), optim.scale_by_path(rules))

  Args:
    rules: (pattern, factor), in order; factors >= 0, may be traced. 0 freezes
      a leaf, whose state still moves.

  Raises:
    UserError: a concrete factor below 0; at `init`, a leaf that no rule
      matches.
  """
  _check_rules("scale_by_path", rules)
  for pattern, factor in rules:
    validate.scalar("scale_by_path", f"rules[{pattern!r}]", factor)

  def init(params):
    groups.match_tree(rules, params)
    return optax.EmptyState()

  def update(updates, state, params=None, **extra_args):
    del params, extra_args
    factors = groups.match_tree(rules, updates).values()
    flat, structure = jax.tree.flatten(updates)
    scaled = [
      (u * factor).astype(u.dtype)
      for u, factor in zip(flat, factors, strict=True)
    ]
    return structure.unflatten(scaled), state

  return optax.GradientTransformationExtraArgs(init, update)


def partition_by_path(
  rules: Sequence[tuple[str, optax.GradientTransformation]],
) -> optax.GradientTransformationExtraArgs:
  """Moves each leaf by the transform of the first matching rule.

  `optax.partition` with labels from paths: transforms of their own rates,
  decay and state for groups of leaves.

      optim.partition_by_path([
        (".*embedding", optim.adamw(1e-3, weight_decay=0.0)),
        (".*", optim.muon(0.02)),
      ])

  Args:
    rules: (pattern, transform), in order.

  Raises:
    UserError: a pattern that is no regular expression; at `init`, a leaf that
      no rule matches.
    TypeError: rules that are no pairs, or a policy that is no transform.
  """
  _check_rules("partition_by_path", rules, transforms=True)
  labels = by_path([(pattern, n) for n, (pattern, _) in enumerate(rules)])
  return optax.partition(
    {n: transform for n, (_, transform) in enumerate(rules)}, labels
  )


def _check_rules(method: str, given: Any, *, transforms: bool = False) -> None:
  """Checks rules on paths.

  Args:
    method: names it in messages.
    given: to be a sequence of (regular expression, policy).
    transforms: whether policies are to be optax transforms.

  Raises:
    WrongTypeError: no such sequence, or a policy that is no transform.
    UserError: a pattern that is no regular expression.
  """
  pairs = isinstance(given, list | tuple) and all(
    isinstance(rule, list | tuple) and len(rule) == 2 for rule in given
  )
  if not pairs:
    validate.refuse_type(
      method,
      "rules",
      given,
      "a list of pairs (regular expression, policy)",
    )
  for n, (path, policy) in enumerate(given):
    validate.pattern(method, f"rules[{n}][0]", path)
    if transforms and not validate.is_transform(policy):
      validate.refuse_type(
        method, f"rules[{path!r}]", policy, "an optax transform"
      )
