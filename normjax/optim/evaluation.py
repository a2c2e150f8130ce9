"""The parameters that an evaluation uses, where they are not the trained ones.

Schedule-free methods train at one point and evaluate at another; weight
averages are kept in the optimizer's state. A type of state says so by a method
`evaluation_params(params)`, as in

    class AveragedState(NamedTuple):
      inner: optax.OptState
      average: optax.Params

      def evaluation_params(self, params):
        return self.average

and may stand anywhere in an optimizer's state, within chains and wrappers.
Running statistics of norms stay those of the trained parameters.
"""

from typing import Any

import jax
import jax.numpy as jnp
from optax import contrib

from normjax import errors
from normjax.types import PyTree

__all__ = ["evaluation_params"]


def evaluation_params(state: PyTree, params: PyTree) -> PyTree:
  """The parameters to evaluate with.

  Args:
    state: of any optimizer.
    params: the trained ones, to which `state` belongs.

  Returns:
    `params` themselves unless a part of the state has others: it has a method
    `evaluation_params`, or is that of `optax.contrib.schedule_free`.

  Raises:
    UserError: several parts have, or one has for another tree.
  """
  nodes = [
    node
    for node in jax.tree.leaves(state, is_leaf=_has_others)
    if _has_others(node)
  ]
  if not nodes:
    return params
  if len(nodes) > 1:
    kinds = ", ".join(type(node).__name__ for node in nodes)
    raise errors.UserError(
      "optimizer.name: one part of the state may say which parameters an"
      f" evaluation uses; here {len(nodes)} do: {kinds}."
    )
  (node,) = nodes
  if isinstance(node, contrib.ScheduleFreeState):
    _check_same(node, node.z, params)  # Of a part, z has gaps.
    found = contrib.schedule_free_eval_params(node, params)
  else:
    found = node.evaluation_params(params)
    _check_same(node, found, params)
  return jax.tree.map(lambda x, like: x.astype(like.dtype), found, params)


def _has_others(node: Any) -> bool:
  return isinstance(node, contrib.ScheduleFreeState) or hasattr(
    type(node), "evaluation_params"
  )


def _check_same(node: Any, tree: PyTree, params: PyTree) -> None:
  """Raises UserError unless the trees and their shapes are the same."""
  if jax.tree.map(jnp.shape, tree) != jax.tree.map(jnp.shape, params):
    raise errors.UserError(
      f"optimizer.name: {type(node).__name__} has evaluation parameters of"
      " another structure than the trained ones. It must wrap the whole"
      " optimizer, not a part of the parameters."
    )
