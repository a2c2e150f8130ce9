"""Lion: Chen et al. 2023, arXiv:2302.06675."""

from typing import Any

import optax
from jax.typing import DTypeLike

from normjax import validate
from normjax.optim import compose
from normjax.types import Array

__all__ = ["lion", "scale_by_lion"]


@validate.options
def scale_by_lion(
  b1: float | Array = 0.9,
  b2: float | Array = 0.99,
  mu_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
  """`optax.scale_by_lion`, with the arithmetic in float32.

  The state is `optax.ScaleByLionState`. Arguments as in `lion`.
  """
  validate.betas("scale_by_lion", b1=b1, b2=b2)
  return compose.stored(
    "scale_by_lion", optax.scale_by_lion(b1, b2), mu=mu_dtype
  )


@validate.options
def lion(
  learning_rate: optax.ScalarOrSchedule,
  b1: float | Array = 0.9,
  b2: float | Array = 0.99,
  mu_dtype: DTypeLike | None = None,
  *,
  weight_decay: float | Array = 1e-3,
  mask: Any = "default",
) -> optax.GradientTransformationExtraArgs:
  """The sign of a momentum, with decoupled weight decay.

      c = b1 m + (1 - b1) g;  m = b2 m + (1 - b2) g
      w -= lr (sign(c) + wd w)

  arXiv:2302.06675, algorithm 2: optax has it as printed, and this is optax's
  rule. Unlike in optax, gains and biases are not decayed unless `mask` says
  so. Every entry moves by the learning rate, whatever the gradient's size, so
  that a constant rate does not settle; the paper's rates are 3 to 10 times
  smaller than AdamW's and its decays as much larger. A zero gradient at zero
  momentum moves nothing; NaN stays in its entry.

  Args:
    learning_rate: number, traced scalar or schedule.
    b1: weight of the momentum in the step, in [0, 1).
    b2: decay of the momentum, in [0, 1).
    mu_dtype: of the stored momentum; None takes the parameter's.
    weight_decay: rate of the decay, >= 0, times lr.
    mask: which leaves decay: "default" (matrices and embeddings), None (all),
      a tree of booleans, or a function from params to one.

  Raises:
    UserError: a concrete number out of range, or a mask of another structure.
    TypeError: an option or a leaf of another type.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from normjax import optim
    >>> objective = lambda w: jnp.sum(w**2)
    >>> tx = optim.lion(0.1)
    >>> w = jnp.array([1.0, 2.0, 3.0])
    >>> state = tx.init(w)
    >>> for _ in range(3):
    ...   updates, state = tx.update(jax.grad(objective)(w), state, w)
    ...   w = optax.apply_updates(w, updates)
    ...   print(f"{objective(w):.2f}")
    12.83
    11.72
    10.67
  """
  direction = scale_by_lion(b1, b2, mu_dtype)
  return compose.finish(
    "lion",
    compose.descend(
      "lion", direction, learning_rate, weight_decay=weight_decay, mask=mask
    ),
    mask,
  )
