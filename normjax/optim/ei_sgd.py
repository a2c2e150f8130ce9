"""SGD of networks of excitatory and inhibitory cells: vwOvOwv/DeepEISNN."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike, DTypeLike

from normjax import validate
from normjax.optim import compose, groups, masks, safe
from normjax.optim.sign_constrained import non_negative_mask, sign_constrained
from normjax.types import Array, PyTree

__all__ = ["ei_sgd", "scale_by_ei_momentum"]


class EiSGDState(NamedTuple):
  """State of `scale_by_ei_momentum`."""

  # Updates so far, shape=(), int32.
  count: ArrayLike  # pyright: ignore[reportIncompatibleMethodOverride]
  mu: PyTree  # The momentum: shapes of the parameters, in mu_dtype.


@validate.options
def scale_by_ei_momentum(
  momentum: float | Array = 0.9, *, mu_dtype: DTypeLike | None = None
) -> optax.GradientTransformationExtraArgs:
  """The sum of past gradients, the first of them counted twice.

  m starts as the first gradient and takes it in once more, so that the first
  step is (1 + momentum) g. Arguments as in `ei_sgd`.
  """
  validate.betas("scale_by_ei_momentum", momentum=momentum)

  def init(params):
    groups.check_leaves("scale_by_ei_momentum", params)
    return EiSGDState(
      count=jnp.zeros((), jnp.int32), mu=compose.zeros(params, mu_dtype)
    )

  def update(updates, state, params=None, **extra_args):
    del params, extra_args

    def moved(g, m):
      g, m = safe.promote(g), safe.promote(m)
      return momentum * jnp.where(state.count == 0, g, m) + g

    mu = jax.tree.map(moved, updates, state.mu)
    new = EiSGDState(
      count=optax.safe_increment(state.count),
      mu=compose.cast_like(mu, state.mu),
    )
    return compose.cast_like(mu, updates), new

  return optax.GradientTransformationExtraArgs(init, update)


@validate.options
def ei_sgd(
  learning_rate: optax.ScalarOrSchedule,
  momentum: float | Array = 0.9,
  *,
  weight_decay: float | Array = 5e-4,
  mask: Any = None,
  non_negative: Any = "default",
  mu_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
  """SGD with momentum under which excitatory and inhibitory weights keep >= 0.

      d = g + wd w;  m = momentum m + d, from m = d;  w -= lr m
      w = max(w, 0)   of E-I weights and gains

  As the `EiSGD` of the official code: the decay is part of the gradient and
  acts on everything, gains and biases too, and the first step is 1 + momentum
  times a plain one. The arithmetic is in float32; there is no eps. Without
  leaves of E-I layers it is SGD with that first step.

  Args:
    learning_rate: number, traced scalar or schedule.
    momentum: in [0, 1).
    weight_decay: coupled, >= 0: it enters the momentum.
    mask: which leaves decay: None (all, the official choice), "default"
      (matrices and embeddings), a tree of booleans or a function.
    non_negative: which leaves are projected onto >= 0 after each step:
      "default" (those called kernel_ee, kernel_ie, kernel_ei, gain_i, gain_e,
      not the biases), None (all), a tree of booleans or a function.
    mu_dtype: of the stored momentum; None takes the parameter's.

  Raises:
    UserError: a concrete number out of range, or a mask of another structure.
    TypeError: an option or a leaf of another type.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from normjax import optim
    >>> objective = lambda w: jnp.sum((w["gain_e"] - 1) ** 2 + w["gain_i"])
    >>> tx = optim.ei_sgd(0.05, weight_decay=0.0)
    >>> w = {"gain_e": jnp.array([3.0]), "gain_i": jnp.array([0.12])}
    >>> state = tx.init(w)
    >>> for _ in range(3):
    ...   updates, state = tx.update(jax.grad(objective)(w), state, w)
    ...   w = optax.apply_updates(w, updates)
    ...   print(f"{w['gain_e'][0]:.2f} {w['gain_i'][0]:.3f}")
    2.62 0.025
    2.12 0.000
    1.55 0.000
  """
  method = "ei_sgd"
  validate.scalars(method, weight_decay=weight_decay)
  step = optax.chain(
    compose.add_decay(method, weight_decay, mask),
    compose.descend(
      method, scale_by_ei_momentum(momentum, mu_dtype=mu_dtype), learning_rate
    ),
  )
  return compose.finish(method, sign_constrained(step, non_negative), mask)


def routes(params: PyTree, **options: Any) -> dict[str, str]:
  """Path of each leaf to the name of its update."""
  flags = masks.resolve_mask(
    options.get("non_negative", "default"),
    params,
    name="non_negative",
    named={"default": non_negative_mask},
  )
  return {
    path: "ei_sgd (>= 0)" if flag else "ei_sgd"
    for (path, _), flag in zip(groups.leaves(params), flags, strict=True)
  }
