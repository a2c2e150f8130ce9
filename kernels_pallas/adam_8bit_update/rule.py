"""Adam, entry by entry: arXiv:1412.6980, as in arXiv:2110.02861."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from kernels_pallas import safe
from kernels_pallas.step_8bit.rule import Rule, Scalar


class Scalars(NamedTuple):
  """The numbers of a step, in the order in which an array may hold them."""

  learning_rate: Scalar
  b1: Scalar
  b2: Scalar
  eps: Scalar
  weight_decay: Scalar
  first: Scalar  # 1 / (1 - b1^t).
  second: Scalar  # 1 / sqrt(1 - b2^t).
  gradient_scale: Scalar = 1.0


def is_good(g: Array) -> Array:
  """Whether the second moment of a gradient is a number."""
  # Mosaic has no `is_finite`.
  return g * g < jnp.inf


def direction(
  g: Array, m: Array, v: Array, scalars: Scalars
) -> tuple[Array, Array, Array]:
  """Adam's direction and moments, which are 0 where the gradient is no good."""
  b1, b2 = scalars.b1, scalars.b2
  good = is_good(g)
  m = jnp.where(good, b1 * m + (1 - b1) * g, 0)
  v = jnp.where(good, b2 * v + (1 - b2) * g * g, 0)
  root = jnp.sqrt(v) * scalars.second
  return safe.divide(m * scalars.first, root + scalars.eps), m, v


def _step(
  w: Array,
  g: Array,
  moments: Sequence[Array],
  scalars: Scalars,
  decay: Scalar | None,
) -> tuple[Array, tuple[Array, ...]]:
  """An entry whose gradient is no good does not move."""
  m, v = moments
  u, m, v = direction(g, m, v, scalars)
  step = -scalars.learning_rate * u
  if decay is not None:
    step = step - decay * (w + step)
  return jnp.where(is_good(g), step, 0), (m, v)


RULE = Rule(
  "adam_8bit_update",
  Scalars,
  signed=(True, False),
  decay=lambda scalars: scalars.learning_rate * scalars.weight_decay,
  step=_step,
)
