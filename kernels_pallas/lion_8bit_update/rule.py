"""Lion, entry by entry: arXiv:2302.06675, algorithm 2."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from kernels_pallas.step_8bit.rule import Rule, Scalar, is_finite


class Scalars(NamedTuple):
  """The numbers of a step, in the order in which an array may hold them."""

  learning_rate: Scalar
  b1: Scalar
  b2: Scalar
  weight_decay: Scalar
  gradient_scale: Scalar = 1.0


def direction(
  g: Array, m: Array, b1: Scalar, b2: Scalar
) -> tuple[Array, Array]:
  """Lion's direction and momentum, 0 where the gradient is no number."""
  u = jnp.sign(b1 * m + (1 - b1) * g)
  return u, jnp.where(is_finite(g), b2 * m + (1 - b2) * g, 0)


def _step(
  w: Array,
  g: Array,
  moments: Sequence[Array],
  scalars: Scalars,
  decay: Scalar | None,
) -> tuple[Array, tuple[Array, ...]]:
  """An entry whose gradient is no number does not move."""
  (m,) = moments
  u, m = direction(g, m, scalars.b1, scalars.b2)
  if decay is not None:
    u = u + decay * w
  return jnp.where(is_finite(g), -scalars.learning_rate * u, 0), (m,)


RULE = Rule(
  "lion_8bit_update",
  Scalars,
  signed=(True,),
  decay=lambda scalars: scalars.weight_decay,
  step=_step,
)
