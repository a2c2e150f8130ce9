"""What trains NFNets: Brock et al. 2021, arXiv:2102.06171."""

from collections.abc import Mapping
from typing import Any

import optax
from jax.typing import DTypeLike

from normjax import validate
from normjax.optim import compose, groups
from normjax.optim import dims as dims_lib
from normjax.optim.adaptive_grad_clip import adaptive_grad_clip
from normjax.optim.sgd import scale_by_momentum
from normjax.types import Array, PyTree

__all__ = ["nfnet_sgd"]


@validate.options
def nfnet_sgd(
  learning_rate: optax.ScalarOrSchedule,
  momentum: float | Array = 0.9,
  nesterov: bool = True,
  mu_dtype: DTypeLike | None = None,
  *,
  clipping: float | Array = 0.01,
  eps: float | Array = 1e-3,
  weight_decay: float | Array = 2e-5,
  mask: Any = "default",
  exempt: str | None = groups.HEAD_NAMES,
  dims: dims_lib.DimsSpec = None,
) -> optax.GradientTransformationExtraArgs:
  """Momentum on adaptively clipped gradients.

      d = AGC(g) + wd w
      m = momentum m + d
      p = d + momentum m   (nesterov)   or   m
      w -= lr p

  arXiv:2102.06171, in the order of the official code's `SGD_AGC` and with its
  groups: the weights of the last layer decay but are not clipped, gains and
  biases are clipped but do not decay. `adaptive_grad_clip` has AGC. The decay
  is coupled: it enters the momentum. A zero gradient moves nothing but by the
  decay; a scalar that starts at 0 moves by at most about
  lr clipping eps / (1 - momentum) a step at first.

  Args:
    learning_rate: number, traced scalar or schedule.
    momentum: decay of the past, in [0, 1).
    nesterov: whether the step looks ahead.
    mu_dtype: of the stored momentum; None takes the parameter's.
    clipping: the largest ratio of a unit's gradient to its weights, >= 0.
    eps: the least norm of a unit's weights, >= 0.
    weight_decay: rate of the decay, >= 0.
    mask: which leaves decay: "default" (matrices and embeddings, no gains and
      biases), None (all), a tree of booleans or a function.
    exempt: pattern of the paths whose weights are not clipped; None clips
      all.
    dims: units, as in `adaptive_grad_clip`.

  Raises:
    UserError: a concrete number out of range, a mask or dims of another
      structure.
    TypeError: an option or a leaf of another type.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from normjax import optim
    >>> objective = lambda w: jnp.sum((w - 1) ** 2)
    >>> tx = optim.nfnet_sgd(0.1, clipping=1.0, weight_decay=0.0)
    >>> w = jnp.array([3.0, 2.0, 0.0])
    >>> state = tx.init(w)
    >>> for _ in range(3):
    ...   updates, state = tx.update(jax.grad(objective)(w), state, w)
    ...   w = optax.apply_updates(w, updates)
    ...   print(f"{objective(w):.2f}")
    3.11
    0.81
    0.00
  """
  method = "nfnet_sgd"
  validate.scalars(method, weight_decay=weight_decay)
  direction = optax.chain(
    adaptive_grad_clip(clipping, eps, exempt=exempt, dims=dims),
    compose.add_decay(method, weight_decay, mask),
    scale_by_momentum(momentum, nesterov=nesterov, mu_dtype=mu_dtype),
  )
  return compose.finish(
    method, compose.descend(method, direction, learning_rate), mask
  )


def routes(params: PyTree, **options: Any) -> Mapping[str, str]:
  """Path of each leaf to the name of its update."""
  entries = dims_lib.resolve(options.get("dims"), params, dims_lib.channel_dims)
  return {
    path: "nfnet_sgd" + dims_lib.read(entry)
    for (path, _), entry in zip(groups.leaves(params), entries, strict=True)
  }
