"""Whole steps: parameters and state moved in one pass over memory."""

from collections.abc import Callable, Sequence
from typing import Any

import optax

from normjax import errors
from normjax.types import PyTree

__all__ = ["InPlace", "apply"]

# (gradients, state, params, impl=) -> (params, state).
Apply = Callable[..., tuple[PyTree, PyTree]]


class InPlace(optax.GradientTransformationExtraArgs):
  """A transform that can also take the whole step; see `apply`.

  Attributes:
    apply: what `update` and `optax.apply_updates` give together; None where
      the transform is not the one that it was made for.
  """

  apply: Apply | None = None

  def __new__(
    cls,
    init: optax.TransformInitFn,
    update: optax.TransformUpdateExtraArgsFn,
    apply: Apply | None = None,
  ):
    """A transform's two functions, and the third."""
    self = super().__new__(cls, init, update)
    self.apply = apply
    return self


def add(transform: optax.GradientTransformation, apply: Apply) -> InPlace:
  """The transform with `apply`."""
  extended = optax.with_extra_args_support(transform)
  return InPlace(extended.init, extended.update, apply)


def apply(
  tx: optax.GradientTransformation,
  gradients: PyTree,
  state: PyTree,
  params: PyTree,
  *,
  impl: str | Sequence[str] | None = None,
  **extra_args: Any,
) -> tuple[PyTree, PyTree]:
  """One step of an optimizer: its update, added to the parameters.

  The same as `update` and `optax.apply_updates`, which write the updates and
  read them again. An optimizer that is an `InPlace` may have a kernel without
  that; where state and params are donated, it works in their memory. Training
  by a config takes `update`, since it measures the updates.

  Args:
    tx: the optimizer.
    gradients: of the parameters' structure.
    state: of the optimizer.
    params: the parameters.
    impl: which kernel takes the step, by the names that the optimizer's op
      has (8-bit Adam: `kernels_pallas.adam_8bit_update`); a tuple is tried in
      its order. None for the first that is proved here.
    **extra_args: what else `tx.update` takes.

  Returns:
    The parameters and the state after the step.

  Raises:
    ValueError: no parameters.
    UserError: an `impl` for an optimizer that has no kernel.

  Example:
    >>> import jax.numpy as jnp
    >>> from normjax import optim
    >>> tx = optim.adam_8bit(0.1)
    >>> w = jnp.ones((16, 256))
    >>> w, state = optim.apply(tx, jnp.ones_like(w), tx.init(w), w)
    >>> print(f"{w[0, 0]:.1f}")
    0.9
  """
  if params is None:
    raise ValueError("optim.apply needs params as its fourth argument.")
  if isinstance(tx, InPlace) and tx.apply is not None:
    return tx.apply(gradients, state, params, impl=impl, **extra_args)
  if impl is not None:
    raise errors.UserError(
      f"optim.apply: impl={impl!r}: this optimizer has no kernel for whole"
      " steps; allowed: None. optim.adam_8bit and optim.adamw_8bit have."
    )
  return by_update(tx, gradients, state, params, **extra_args)


def by_update(
  tx: optax.GradientTransformation,
  gradients: PyTree,
  state: PyTree,
  params: PyTree,
  **extra_args: Any,
) -> tuple[PyTree, PyTree]:
  """`apply` without a way of the optimizer's own."""
  tx = optax.with_extra_args_support(tx)
  updates, state = tx.update(gradients, state, params, **extra_args)
  return optax.apply_updates(params, updates), state
