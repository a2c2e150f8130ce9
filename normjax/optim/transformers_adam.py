"""The Adam under Conda, GaLore and Fira: AdamW of Hugging Face Transformers.

It differs from arXiv:1711.05101 in two places: eps is added before the bias
correction, and the decay acts on the weight that the step has moved.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike, DTypeLike

from normjax.optim import compose, routed, safe
from normjax.types import Array


def ratio(m: Array, v: Array, eps: float | Array) -> Array:
  """The ratio m / (sqrt(v) + eps), not corrected for bias; 0 for 0 / 0."""
  return safe.divide(m, jnp.sqrt(v) + eps)


def correction(
  count: ArrayLike, dtype: DTypeLike, *, b1: float | Array, b2: float | Array
) -> Array:
  """sqrt(1 - b2^t) / (1 - b1^t), with t = count."""
  second = safe.bias_correction(b2, count, dtype)
  return jnp.sqrt(second) / safe.bias_correction(b1, count, dtype)


def moments(
  g: Array, m: Array, v: Array, *, b1: float | Array, b2: float | Array
) -> tuple[Array, Array]:
  """The moving averages of g and g^2, of g cut by `safe.clip_for_square`."""
  g = safe.clip_for_square(g)
  return b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g


def scale_by_adam(
  b1: float | Array = 0.9,
  b2: float | Array = 0.999,
  eps: float | Array = 1e-8,
  *,
  mu_dtype: DTypeLike | None = None,
  nu_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
  """Adam's direction, eps before the correction; the state is optax's.

  Arguments as in `adamw.scale_by_adam`.
  """

  def init(params):
    return optax.ScaleByAdamState(
      count=jnp.zeros((), jnp.int32),
      mu=compose.zeros(params, mu_dtype),
      nu=compose.second_moments(params, nu_dtype),
    )

  def update(updates, state, params=None, **extra_args):
    del params, extra_args
    count = optax.safe_increment(state.count)
    g, m, v = (
      jax.tree.map(safe.promote, tree) for tree in (updates, state.mu, state.nu)
    )
    flat, structure = jax.tree.flatten(g)
    pairs = [
      moments(*row, b1=b1, b2=b2)
      for row in zip(flat, jax.tree.leaves(m), jax.tree.leaves(v), strict=True)
    ]
    moved = structure.unflatten(
      [
        ratio(m, v, eps) * correction(count, m.dtype, b1=b1, b2=b2)
        for m, v in pairs
      ]
    )
    m, v = (structure.unflatten([pair[n] for pair in pairs]) for n in range(2))
    new = optax.ScaleByAdamState(
      count=count,
      mu=compose.cast_like(m, state.mu),
      nu=compose.cast_like(v, state.nu),
    )
    return compose.cast_like(moved, updates), new

  return optax.GradientTransformationExtraArgs(init, update)


def optimizer(
  method: str,
  direction: Callable[..., optax.GradientTransformation],
  learning_rate: optax.ScalarOrSchedule,
  b1: float | Array,
  b2: float | Array,
  eps: float | Array,
  *,
  fallback: routed.Fallback,
  adam: Callable[..., optax.GradientTransformation] = scale_by_adam,
  **options: Any,
) -> optax.GradientTransformationExtraArgs:
  """`routed.optimizer` with this file's Adam, and its decay, for the rest.

  `adam` takes the Adam's place, as where its moments are held in few bits.

  Each option of the fallback that is None is the matrices'.
  """
  return routed.optimizer(
    method,
    direction,
    learning_rate,
    fallback=fallback.filled(b1=b1, b2=b2, eps=eps),
    adam=adam,
    descend=compose.descend_then_decay,
    **options,
  )
