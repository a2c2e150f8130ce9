"""What an objective is: a loss, and what is measured along with it."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from normjax import errors
from normjax.metrics.base import Batch, Metric
from normjax.nn.output import Output
from normjax.types import Array

Sums = dict[str, Array]

# What is minimized, and the sum of the weights: beside the means, in `Sums`.
MINIMIZED = "objective"
WEIGHT = "weight"
# The mean that every objective has: it tells divergence, and a sweep compares
# it unless told otherwise. Without regularizers, so that it can be compared.
LOSS = "loss"


class Objective(NamedTuple):
  """A loss with its options.

  Attributes:
    name: as in a config.
    targets: the kind of targets that it reads, see `data.dataset.Dataset`;
      empty for any.
    means: what it measures by name, `LOSS` among it: columns of a training
      row and of an evaluation. None: what `weighted_sums` happens to give.
    weighted_sums: (output, batch) -> Sums: of each of `means`, and of
      `MINIMIZED`, the sum over the examples times `batch["weight"]`: scalars
      in float32. Sums, so that means over any split are exact.
    metrics: further ones, computed from the means; they are measured where
      the data set has what they need.
  """

  name: str
  targets: str
  means: tuple[str, ...] | None
  weighted_sums: Callable[[Output, Batch], Sums]
  metrics: tuple[Metric, ...] = ()

  def sums(self, output: Output, batch: Batch) -> Sums:
    """The sums of a batch, `WEIGHT` and the model's auxiliary losses included.

    An auxiliary loss is one number per batch; over batches its mean is weighted
    as that of the examples.

    Raises:
      UserError: the model's output does not fit, or the objective does not
        give what it declares.
    """
    key = f"objective.name={self.name!r}"
    sums = dict(self.weighted_sums(output, batch))
    wanted = {MINIMIZED, *(sums if self.means is None else self.means)}
    if sums.keys() != wanted or LOSS not in wanted:
      raise errors.UserError(
        f"{key} gives {', '.join(sorted(sums))}; it must give"
        f" {', '.join(sorted(wanted | {LOSS}))}: {MINIMIZED}, {LOSS} and what"
        " else it declares as its means."
      )
    weight = jnp.sum(batch["weight"])
    for name, value in output.auxiliary_losses.items():
      if name in (*sums, WEIGHT) or jnp.shape(value):
        raise errors.UserError(
          f"the model's auxiliary loss {name!r} of shape {jnp.shape(value)}"
          f" must be a scalar and not be called {', '.join(sums)} or {WEIGHT}."
        )
      sums[name] = weight * value
      sums[MINIMIZED] += sums[name]
    return {**sums, WEIGHT: weight}


def check_shape(
  name: str, output: Output, targets: Array, wanted: tuple[int, ...]
) -> None:
  """Checks that the logits belong to the targets.

  Args:
    name: of the objective.
    output: of the model.
    targets: of the batch.
    wanted: the logits' shape; -1 stands for any size.

  Raises:
    UserError: they have another shape.
  """
  shape = jnp.shape(output.logits)
  if len(shape) != len(wanted) or any(
    want not in (-1, size) for size, want in zip(shape, wanted, strict=True)
  ):
    allowed = ", ".join("classes" if n == -1 else str(n) for n in wanted)
    raise errors.UserError(
      f"objective.name={name!r}: targets of shape {jnp.shape(targets)} need"
      f" logits of shape ({allowed}); the model gives {shape}."
    )


def check_weight(name: str, batch: Batch, value_axes: int = 0) -> None:
  """Checks that there is one weight per target.

  Other shapes broadcast, and weigh what they should not.

  Args:
    name: of the objective.
    batch: its targets and weights.
    value_axes: how many axes of the targets, at the end, are one target's.

  Raises:
    UserError: there is not.
  """
  targets, weight = jnp.shape(batch["targets"]), jnp.shape(batch["weight"])
  if targets[: len(weight)] != weight or len(targets) - len(weight) != (
    value_axes
  ):
    wanted = [*map(str, weight), *["values"] * value_axes]
    raise errors.UserError(
      f"objective.name={name!r}: weights of shape {weight} need targets of"
      f" shape ({', '.join(wanted)}); got {targets}."
    )
