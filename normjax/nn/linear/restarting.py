"""When layers start again, and what becomes of the optimizer's moments."""

import dataclasses

import jax.numpy as jnp

from normjax import validate
from normjax.types import Array

RESETS = ("start", "random", "magnitude")


@dataclasses.dataclass(frozen=True)
class Restarts:
  """When layers start again, and what becomes of the optimizer's moments.

  Attributes:
    every: steps from one restart to the next.
    adjust_steps: by how many the first comes earlier; below `every`.
    reset: "start": all that the optimizer holds of the layer's parameters is
      what it starts with; "random" and "magnitude": of each of its moments a
      share is set to zero, drawn at random or the smallest, and the rest stays.
    prune_ratio: that share, in [0, 1).
  """

  every: int
  adjust_steps: int = 0
  reset: str = "start"
  prune_ratio: float = 0.999

  @property
  def prunes(self) -> bool:
    """Whether a part of the moments stays."""
    return self.reset != "start"

  def check(self, owner: str) -> None:
    """Raises UserError for a value that is none.

    Args:
      owner: whose options they are, for the message.
    """
    # The step, an int32, is divided by it.
    most = validate.MAX_INT32
    validate.count(owner, "restart_every", self.every, most=most)
    validate.count(owner, "adjust_steps", self.adjust_steps, least=0)
    if self.adjust_steps >= self.every:
      allowed = f"below restart_every={self.every}"
      validate.refuse(owner, "adjust_steps", self.adjust_steps, allowed)
    validate.choice(owner, "reset", self.reset, RESETS)
    validate.number(
      owner, "prune_ratio", self.prune_ratio, least=0.0, below=1.0
    )

  def due(self, step: Array) -> Array:
    """Whether layers restart after `step` updates."""
    return (step + self.adjust_steps) % self.every == 0


def prune_random(moment: Array, ratio: float, uniform: Array) -> Array:
  """Entries are kept where U > ratio, as in the official `random_pruning_`.

  Args:
    moment: of any shape.
    ratio: the share that goes, in expectation.
    uniform: of the same shape, drawn in [0, 1).
  """
  return jnp.where(uniform > ratio, moment, 0).astype(moment.dtype)


def prune_magnitude(moment: Array, ratio: float) -> Array:
  """Entries are kept where |m| > q, as in the official `magnitude_pruning_`.

  q is the `ratio` quantile of all |m|, linear between two neighbours, in
  float32; it is rounded to the moment's dtype before it is compared.

  Args:
    moment: of any shape.
    ratio: the share that goes.
  """
  size = jnp.abs(moment)
  threshold = jnp.quantile(size.astype(jnp.float32), ratio)
  kept = size > threshold.astype(moment.dtype)
  return jnp.where(kept, moment, 0).astype(moment.dtype)
