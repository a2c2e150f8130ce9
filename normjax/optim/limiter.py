"""The norm-growth limiter of Fira, arXiv:2410.01623."""

import jax.numpy as jnp

from normjax.optim import safe
from normjax.types import Array

# Added to the norm that divides, as in the official code.
NORM_EPS = 1e-8


def limit_growth(
  update_nij: Array, previous_n: Array, gamma: float | Array = 1.01
) -> tuple[Array, Array]:
  """Keeps the norm of each matrix below gamma times the previous one.

  Args:
    update_nij: the matrices.
    previous_n: the norms that this function returned last; 0 before the first
      update, which is not limited, nor is what follows an update of zero.
    gamma: the largest growth, > 0.

  Returns:
    The matrices, scaled where they were too large, and their norms (n,).
  """
  norm = safe.norm(update_nij, (1, 2))
  previous = previous_n[:, None, None]
  growth = jnp.maximum(norm / (previous + NORM_EPS), gamma) / gamma
  divisor = jnp.where(previous == 0, 1, growth)
  return update_nij / divisor, (norm / divisor)[:, 0, 0]
