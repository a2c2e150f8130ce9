"""Momentum, entry by entry, as in arXiv:2110.02861."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from kernels_pallas.step_8bit.rule import Rule, Scalar, is_finite


class Scalars(NamedTuple):
  """The numbers of a step, in the order in which an array may hold them."""

  learning_rate: Scalar
  momentum: Scalar
  weight_decay: Scalar
  gradient_scale: Scalar = 1.0


def accumulated(g: Array, m: Array, momentum: Scalar) -> Array:
  """The sum of past gradients, 0 where the gradient is no number."""
  return jnp.where(is_finite(g), momentum * m + g, 0)


def _step(
  w: Array,
  g: Array,
  moments: Sequence[Array],
  scalars: Scalars,
  decay: Scalar | None,
) -> tuple[Array, tuple[Array, ...]]:
  """An entry whose gradient is no number does not move."""
  (m,) = moments
  whole = g if decay is None else g + decay * w
  m = accumulated(whole, m, scalars.momentum)
  return jnp.where(is_finite(g), -scalars.learning_rate * m, 0), (m,)


RULE = Rule(
  "momentum_8bit_update",
  Scalars,
  signed=(True,),
  decay=lambda scalars: scalars.weight_decay,
  step=_step,
)
