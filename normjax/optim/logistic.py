"""Normalized logistic regression by gradient descent: arXiv:2412.08424."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from normjax import errors, validate
from normjax.optim import compose, safe
from normjax.types import Array

__all__ = ["mean_residual", "normalized_logistic_gd", "scale_by_mean_residual"]


def mean_residual(logits: Array, labels: Array) -> Array:
  """The mean of p_i = 1 / (1 + exp(y_i z_i)), the weights of the gradient.

  Args:
    logits: z_i, any shape.
    labels: y_i, -1 or 1, of that shape.

  Returns:
    A scalar in (0, 1), float32 at least.
  """
  return jnp.mean(jax.nn.sigmoid(-safe.promote(logits) * labels))


def scale_by_mean_residual() -> optax.GradientTransformationExtraArgs:
  """The gradient divided by the `mean_residual` given to `update`."""

  def update(updates, state, params=None, *, mean_residual=None, **extra_args):
    del params, extra_args
    if mean_residual is None:
      raise errors.UserError(
        "normalized_logistic_gd: update needs mean_residual, as in"
        " tx.update(gradients, state, params, mean_residual=r) with"
        " r = optim.mean_residual(logits, labels)."
      )
    if jnp.ndim(mean_residual):
      raise errors.UserError(
        "normalized_logistic_gd: mean_residual of shape"
        f" {jnp.shape(mean_residual)}; allowed: a scalar."
      )
    return jax.tree.map(
      lambda g: safe.divide(safe.promote(g), mean_residual).astype(g.dtype),
      updates,
    ), state

  return optax.GradientTransformationExtraArgs(
    lambda params: optax.EmptyState(), update
  )


def normalized_logistic_gd(
  learning_rate: optax.ScalarOrSchedule,
  *,
  weight_decay: float | Array = 0.0,
  mask: Any = "default",
) -> optax.GradientTransformationExtraArgs:
  """Logistic regression whose step weighs the examples by p_i / sum p.

      p_i = 1 / (1 + exp(y_i a_i w));  w -= lr (g / mean(p) + wd w)

  arXiv:2412.08424, section 6, with g the gradient of the mean logistic loss,
  -mean(p_i y_i a_i). mean(p) is no function of g: give it to `update` as
  `mean_residual=`. A zero gradient moves nothing, nor does a residual of 0
  (margins beyond 88 in float32). Not in the table of optimizers, because a
  loss in general has no such residual.

  Args:
    learning_rate: number, traced scalar or schedule; the paper takes up to
      100.
    weight_decay: rate of the decay, >= 0, times lr; not in the paper.
    mask: which leaves decay: "default" (matrices and embeddings), None (all),
      a tree of booleans, or a function from params to one.

  Raises:
    UserError: a concrete number out of range, a mask of another structure,
      or an update without `mean_residual`.
    TypeError: an option or a leaf of another type.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from normjax import optim
    >>> a, y = jnp.array([[2.0, 1.0], [1.0, -2.0]]), jnp.array([1.0, -1.0])
    >>> objective = lambda w: jnp.mean(jnp.log1p(jnp.exp(-y * (a @ w))))
    >>> tx = optim.normalized_logistic_gd(1.0)
    >>> w = jnp.zeros(2)
    >>> state = tx.init(w)
    >>> for _ in range(3):
    ...   updates, state = tx.update(
    ...     jax.grad(objective)(w),
    ...     state,
    ...     w,
    ...     mean_residual=optim.mean_residual(a @ w, y),
    ...   )
    ...   w = optax.apply_updates(w, updates)
    ...   print(f"{objective(w):.2f}")
    0.08
    0.01
    0.00
  """
  method = "normalized_logistic_gd"
  validate.learning_rate(method, learning_rate)
  return compose.finish(
    method,
    compose.descend(
      method,
      scale_by_mean_residual(),
      learning_rate,
      weight_decay=weight_decay,
      mask=mask,
    ),
    mask,
  )
