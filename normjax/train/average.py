"""An exponential moving average of weights and running statistics.

    e_0 = w_0,   e_t+1 = d e_t + (1 - d) w_t+1

from the initial weights and hence without a correction of its start, as in
timm (ModelEmaV2) and deepmind-research nfnets/experiment.py. Both average
running statistics too; counters are taken as they are. With warm-up
d = min(decay, (1 + t) / (10 + t)), `tf1_ema` of nfnets/utils.py.
"""

import jax
import jax.numpy as jnp
import optax

from normjax import configure, errors
from normjax.types import Array, Hyper, PyTree

DECAY, WARMUP = "train.ema_decay", "train.ema_warmup"
WEIGHTS = "evaluate.weights"


def check(config: configure.ConfigDict) -> None:
  """Refuses what nothing would read without an average.

  Raises:
    UserError: an option of the average, where there is none.
  """
  if configure.optional(config, DECAY):
    return
  for path in (WEIGHTS, WARMUP):
    value = configure.optional(config, path)
    if value != configure.OPTIONAL[path]:
      raise errors.UserError(
        f"{path}={value!r}: there is no average; set {DECAY} above 0, such as"
        " 0.999."
      )


def start(params: PyTree, stats: PyTree) -> dict[str, PyTree]:
  """The average before step 0.

  Args:
    params: what is trained.
    stats: forward statistics.
  """
  # Buffers of its own: a step donates all that it gets.
  return jax.tree.map(jnp.copy, {"params": params, "stats": stats})


def update(
  average: dict[str, PyTree],
  params: PyTree,
  stats: PyTree,
  decay: Array | float,
) -> dict[str, PyTree]:
  """The average after a step.

  Args:
    average: before it.
    params: what is trained, after the step.
    stats: after it.
    decay: d.
  """

  def moved(old: Array, new: Array) -> Array:
    if not jnp.issubdtype(new.dtype, jnp.inexact):
      return new
    return optax.incremental_update(new, old, 1 - decay)

  return jax.tree.map(moved, average, {"params": params, "stats": stats})


def decay_at(step: Array, hyper: Hyper, *, warmup: bool) -> Array:
  """The decay of the update that follows `step` others."""
  decay = hyper[DECAY]
  return jnp.minimum(decay, (1 + step) / (10 + step)) if warmup else decay
