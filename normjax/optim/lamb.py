"""LAMB: You et al. 2020, arXiv:1904.00962."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike

from normjax import validate
from normjax.optim import compose, safe
from normjax.optim.adamw import scale_by_adam
from normjax.types import Array

__all__ = ["lamb", "scale_by_trust_ratio"]


def scale_by_trust_ratio() -> optax.GradientTransformation:
  """||w|| / ||u|| times u, leaf by leaf; u where one of the norms is 0.

  `optax.scale_by_trust_ratio` for any scale: there, weights or updates beyond
  1e19 give NaN.
  """

  def scale(u, w):
    axes = range(u.ndim)
    size = safe.norm(safe.promote(w), axes)
    wide = safe.promote(u)
    scaled = size * safe.normalize(wide, axes, 0.0)
    return jnp.where(size == 0, wide, scaled).astype(u.dtype)

  def update(updates, state, params=None):
    compose.need_params("scale_by_trust_ratio", params)
    return jax.tree.map(scale, updates, params), state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


@validate.options
def lamb(
  learning_rate: optax.ScalarOrSchedule,
  b1: float | Array = 0.9,
  b2: float | Array = 0.999,
  eps: float | Array = 1e-6,
  *,
  mu_dtype: DTypeLike | None = None,
  nu_dtype: DTypeLike | None = None,
  weight_decay: float | Array = 0.01,
  mask: Any = "default",
) -> optax.GradientTransformationExtraArgs:
  """AdamW whose step is as long as the weights, leaf by leaf.

      r = m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + wd w
      w -= lr ||w|| / ||r|| r        (w -= lr r where a norm is 0)

  arXiv:1904.00962, algorithm 2, with phi the identity: the paper bounds
  ||w|| by two constants that it does not give. A layer is a leaf: layers that
  are stacked in one leaf share one ratio. Gains and biases get a ratio too,
  as in the paper and optax, but are not decayed unless `mask` says so. The
  length of a step does not depend on the gradient's scale, nor on how strong
  the decay is beside it. Norms are in float32, and finite from 1e-37 to 1e37.

  Args:
    learning_rate: number, traced scalar or schedule.
    b1: decay of the first moment, in [0, 1).
    b2: decay of the second moment, in [0, 1).
    eps: added outside the square root, >= 0.
    mu_dtype: of the stored first moment; None takes the parameter's.
    nu_dtype: of the stored second moment; None takes float32 at least.
    weight_decay: the paper's lambda, >= 0, inside the ratio.
    mask: which leaves decay: "default" (matrices and embeddings), None (all),
      a tree of booleans, or a function from params to one.

  Raises:
    UserError: a concrete number out of range, or a mask of another structure.
    TypeError: an option or a leaf of another type.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from normjax import optim
    >>> objective = lambda w: jnp.sum(w**2)
    >>> tx = optim.lamb(0.1)
    >>> w = jnp.array([1.0, 2.0, 3.0])
    >>> state = tx.init(w)
    >>> for _ in range(3):
    ...   updates, state = tx.update(jax.grad(objective)(w), state, w)
    ...   w = optax.apply_updates(w, updates)
    ...   print(f"{objective(w):.2f}")
    11.55
    9.56
    7.94
  """
  validate.scalars("lamb", weight_decay=weight_decay)
  direction = optax.chain(
    scale_by_adam(b1, b2, eps, mu_dtype=mu_dtype, nu_dtype=nu_dtype),
    compose.add_decay("lamb", weight_decay, mask),
    scale_by_trust_ratio(),
  )
  return compose.finish(
    "lamb", compose.descend("lamb", direction, learning_rate), mask
  )
