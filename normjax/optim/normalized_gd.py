"""Normalized gradient descent: Hazan et al. 2015, arXiv:1507.02030."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from normjax import validate
from normjax.optim import compose, safe
from normjax.types import Array

__all__ = ["normalized_gd", "scale_by_gradient_norm"]

_PER = ("tree", "leaf")


def scale_by_gradient_norm(
  eps: float | Array = 0.0, *, per: str = "tree"
) -> optax.GradientTransformation:
  """The gradient divided by its l2 norm + eps; stateless.

  Unlike `optax.contrib.normalize`, 0 for a zero gradient, and finite for any
  finite one. Arguments as in `normalized_gd`.
  """
  method = "scale_by_gradient_norm"
  validate.scalars(method, eps=eps)
  validate.choice(method, "per", per, _PER)

  def by_leaf(g):
    wide = safe.promote(g)
    return safe.normalize(wide, range(g.ndim), eps).astype(g.dtype)

  def update(updates, state, params=None):
    del params
    flat = [safe.promote(g) for g in jax.tree.leaves(updates) if g.size]
    if per == "leaf" or not flat:
      return jax.tree.map(by_leaf, updates), state
    peak = jnp.stack([jnp.max(jnp.abs(g)) for g in flat]).max()
    squares = [jnp.sum(safe.divide(g, peak) ** 2) for g in flat]
    norm = jnp.sqrt(jnp.stack(squares).sum()) + safe.divide(
      jnp.asarray(eps, peak.dtype), peak
    )

    def by_tree(g):
      wide = safe.promote(g)
      return safe.divide(safe.divide(wide, peak), norm).astype(g.dtype)

    return jax.tree.map(by_tree, updates), state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def normalized_gd(
  learning_rate: optax.ScalarOrSchedule,
  eps: float | Array = 0.0,
  *,
  per: str = "tree",
  weight_decay: float | Array = 0.0,
  mask: Any = "default",
) -> optax.GradientTransformationExtraArgs:
  """Gradient descent whose step is as long as the learning rate.

      w -= lr (g / (||g||_2 + eps) + wd w)

  arXiv:1507.02030, algorithm 1, in full batches; no momentum and no state. A
  constant rate does not settle: the minimum is passed by up to its length.
  Norms are in float32, for gradients from 1e-37 to 1e37. A zero gradient moves
  nothing; NaN spoils what shares its norm.

  Args:
    learning_rate: number, traced scalar or schedule.
    eps: added to the norm, >= 0.
    per: "tree" for one norm of the whole gradient, the paper's; "leaf" for
      one of each leaf.
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
    >>> tx = optim.normalized_gd(0.1)
    >>> w = jnp.array([1.0, 2.0, 3.0])
    >>> state = tx.init(w)
    >>> for _ in range(3):
    ...   updates, state = tx.update(jax.grad(objective)(w), state, w)
    ...   w = optax.apply_updates(w, updates)
    ...   print(f"{objective(w):.2f}")
    13.26
    12.54
    11.85
  """
  return compose.finish(
    "normalized_gd",
    compose.descend(
      "normalized_gd",
      scale_by_gradient_norm(eps, per=per),
      learning_rate,
      weight_decay=weight_decay,
      mask=mask,
    ),
    mask,
  )
