"""AdamW: Loshchilov, Hutter 2019, arXiv:1711.05101."""

from typing import Any

import optax
from jax.typing import DTypeLike

from normjax import validate
from normjax.optim import compose
from normjax.types import Array

__all__ = ["adamw", "scale_by_adam"]


@validate.options
def scale_by_adam(
  b1: float | Array = 0.9,
  b2: float | Array = 0.999,
  eps: float | Array = 1e-8,
  *,
  mu_dtype: DTypeLike | None = None,
  nu_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
  """`optax.scale_by_adam` with a dtype for the second moment too.

  The arithmetic is in float32; the state is `optax.ScaleByAdamState`.

  Args:
    b1: decay of the first moment, in [0, 1).
    b2: decay of the second moment, in [0, 1).
    eps: added outside the square root, >= 0.
    mu_dtype: of the stored first moment; None takes the parameter's.
    nu_dtype: of the stored second moment; None takes float32 at least.
  """
  validate.betas("scale_by_adam", b1=b1, b2=b2)
  validate.scalars("scale_by_adam", eps=eps)
  return compose.stored(
    "scale_by_adam",
    compose.with_finite_squares(optax.scale_by_adam(b1, b2, eps)),
    squares=("nu",),
    mu=mu_dtype,
    nu=nu_dtype,
  )


@validate.options
def adamw(
  learning_rate: optax.ScalarOrSchedule,
  b1: float | Array = 0.9,
  b2: float | Array = 0.999,
  eps: float | Array = 1e-8,
  *,
  mu_dtype: DTypeLike | None = None,
  nu_dtype: DTypeLike | None = None,
  weight_decay: float | Array = 1e-4,
  mask: Any = "default",
) -> optax.GradientTransformationExtraArgs:
  """Adam with decoupled weight decay.

      m = b1 m + (1 - b1) g            v = b2 v + (1 - b2) g^2
      w -= lr (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + wd w)

  arXiv:1711.05101, algorithm 2, with the decay scaled by the learning rate as
  in optax and PyTorch. Unlike in optax, gains and biases are not decayed
  unless `mask` says so. Entries of the gradient beyond 9e18, whose
  squares overflow float32, are cut there. A first moment in float16 forgets
  gradients below 3e-7, whose steps shrink to 1 - b1 of theirs: scale the loss
  or ask for another `mu_dtype`.

  Args:
    learning_rate: number, traced scalar or schedule.
    b1: decay of the first moment, in [0, 1).
    b2: decay of the second moment, in [0, 1).
    eps: added outside the square root, >= 0.
    mu_dtype: of the stored first moment; None takes the parameter's.
    nu_dtype: of the stored second moment; None takes float32 at least.
    weight_decay: rate of the decay, >= 0.
    mask: which leaves decay: "default" (matrices and embeddings), None (all),
      a tree of booleans, or a function from params to one.

  Raises:
    UserError: a concrete number out of range, or a mask of another structure.
    TypeError: an option or a leaf of another type.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from normjax import optim
    >>> objective = lambda w: jnp.sum(w**2)
    >>> tx = optim.adamw(0.1)
    >>> w = jnp.array([1.0, 2.0, 3.0])
    >>> state = tx.init(w)
    >>> for _ in range(3):
    ...   updates, state = tx.update(jax.grad(objective)(w), state, w)
    ...   w = optax.apply_updates(w, updates)
    ...   print(f"{objective(w):.2f}")
    12.83
    11.72
    10.68
  """
  direction = scale_by_adam(b1, b2, eps, mu_dtype=mu_dtype, nu_dtype=nu_dtype)
  return compose.finish(
    "adamw",
    compose.descend(
      "adamw", direction, learning_rate, weight_decay=weight_decay, mask=mask
    ),
    mask,
  )
