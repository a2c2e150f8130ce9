"""Whether predictions are right: of NaN there is none."""

import jax.numpy as jnp

from normjax.types import Array


def hits(logits: Array, labels: Array) -> Array:
  """Whether the largest logit is the label's, (...).

  Where one is NaN the answer is no: the place of the first NaN, which argmax
  gives, would make class 0 look known to a model that has diverged.

  Args:
    logits: (..., c).
    labels: (...).
  """
  found = jnp.argmax(logits, axis=-1) == labels
  return found & ~jnp.any(jnp.isnan(logits), axis=-1)
