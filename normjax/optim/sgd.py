"""Stochastic gradient descent with momentum, PyTorch's convention."""

from typing import Any

import optax
from jax.typing import DTypeLike

from normjax import validate
from normjax.optim import compose
from normjax.types import Array

__all__ = ["scale_by_momentum", "sgd"]


@validate.options
def scale_by_momentum(
  momentum: float | Array = 0.9,
  *,
  nesterov: bool = False,
  mu_dtype: DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
  """`optax.trace`, with the arithmetic in float32.

  The state is `optax.TraceState`. Arguments as in `sgd`.
  """
  validate.betas("scale_by_momentum", momentum=momentum)
  return compose.stored(
    "scale_by_momentum", optax.trace(momentum, nesterov), trace=mu_dtype
  )


@validate.options
def sgd(
  learning_rate: optax.ScalarOrSchedule,
  momentum: float | Array = 0.9,
  nesterov: bool = False,
  mu_dtype: DTypeLike | None = None,
  *,
  weight_decay: float | Array = 0.0,
  decoupled: bool = False,
  mask: Any = None,
) -> optax.GradientTransformationExtraArgs:
  """The sum of past gradients (heavy ball), or a step ahead of it.

      d = g + wd w   (coupled)   or   g   (decoupled)
      m = momentum m + d
      p = d + momentum m   (nesterov)   or   m
      w -= lr p   (coupled)   or   lr (p + wd w)   (decoupled)

  Coupled, the default, is `torch.optim.SGD` without dampening, and what
  papers on vision call SGD with weight decay: the decay enters the momentum,
  so that at 0.9 it is ten times a decoupled one of the same number.
  Decoupled is SGDW, arXiv:1711.05101, algorithm 1, at a constant rate, its
  decay written as lr wd. The learning rate multiplies m after the sum: a
  change of it acts on the past's gradients too. m starts at 0, so that the
  first step is lr d ((1 + momentum) lr d under nesterov). NaN stays in its
  entry.

  Args:
    learning_rate: number, traced scalar or schedule.
    momentum: decay of the past, in [0, 1); 0 is gradient descent, with a
      state all the same.
    nesterov: whether the step looks ahead.
    mu_dtype: of the stored momentum; None takes the parameter's.
    weight_decay: rate of the decay, >= 0.
    decoupled: whether the decay goes around the momentum.
    mask: which leaves decay: None (all, as in torch, gains and biases too),
      "default" (matrices and embeddings), a tree of booleans or a function.

  Raises:
    UserError: a concrete number out of range, or a mask of another structure.
    TypeError: an option or a leaf of another type.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from normjax import optim
    >>> objective = lambda w: jnp.sum((w - 1) ** 2)
    >>> tx = optim.sgd(0.1, 0.5)
    >>> w = jnp.array([3.0, 2.0, 0.0])
    >>> state = tx.init(w)
    >>> for _ in range(3):
    ...   updates, state = tx.update(jax.grad(objective)(w), state, w)
    ...   w = optax.apply_updates(w, updates)
    ...   print(f"{objective(w):.2f}")
    3.84
    1.75
    0.55
  """
  method = "sgd"
  validate.scalars(method, weight_decay=weight_decay)
  direction = scale_by_momentum(momentum, nesterov=nesterov, mu_dtype=mu_dtype)
  if decoupled:
    step = compose.descend(
      method, direction, learning_rate, weight_decay=weight_decay, mask=mask
    )
  else:
    step = optax.chain(
      compose.add_decay(method, weight_decay, mask),
      compose.descend(method, direction, learning_rate),
    )
  return compose.finish(method, step, mask)
