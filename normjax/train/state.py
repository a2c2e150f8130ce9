"""All that a step changes, as one tree."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from normjax.types import Array, PyTree


class State(NamedTuple):
  """The state of a run; a checkpoint holds this and the clock."""

  step: Array  # (), int32: updates taken.
  params: PyTree  # All of them, frozen ones too; see `param_dtype`.
  stats: PyTree  # Forward statistics of the norms: float32, int32.
  grad_stats: PyTree  # Statistics of the backward pass, float32.
  optimizer_state: PyTree
  diverged_at: Array  # (), int32: first step with a bad loss, or -1.
  # Of what is trained and of the forward statistics: {"params", "stats"} as
  # `train.average` makes it; None where there is none.
  average: PyTree = None
  # What a procedure keeps from step to step, as examples that are replayed.
  memory: PyTree = None

  def variables(self) -> dict[str, PyTree]:
    """What a model is merged from."""
    return {
      "params": self.params,
      "stats": self.stats,
      "grad_stats": self.grad_stats,
    }

  def branches(self) -> dict[str, PyTree]:
    """What a checkpoint holds: a state without an average has none."""
    tree = self._asdict()
    return {name: branch for name, branch in tree.items() if branch is not None}


def create(
  variables: dict[str, PyTree],
  optimizer_state: PyTree,
  average: PyTree = None,
  memory: PyTree = None,
) -> State:
  """The state before the first step."""
  return State(
    step=jnp.zeros((), jnp.int32),
    params=variables["params"],
    stats=variables["stats"],
    grad_stats=variables["grad_stats"],
    optimizer_state=optimizer_state,
    diverged_at=jnp.full((), -1, jnp.int32),
    average=average,
    memory=memory,
  )


def num_params(params: PyTree) -> int:
  """How many numbers these parameters hold."""
  return sum(leaf.size for leaf in jax.tree.leaves(params))
