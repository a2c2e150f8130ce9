"""Whole steps: parameters and state moved in one pass over memory."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from normjax import errors
from normjax.types import Array, PyTree

__all__ = ["InPlace", "apply"]


class Step(NamedTuple):
  """What a whole step gives.

  Attributes:
    params: after the step.
    state: of the optimizer, likewise.
    update_norm: of all that was added to the parameters.
    updates: that; None where it was no array.
  """

  params: PyTree
  state: PyTree
  update_norm: Array
  updates: PyTree | None


# (gradients, state, params, impl=, scale=) -> the step.
Apply = Callable[..., Step]
# (gradients, state, params) -> whether a kernel would take some leaf.
Serves = Callable[[PyTree, PyTree, PyTree], bool]


class InPlace(optax.GradientTransformationExtraArgs):
  """A transform that can also take the whole step; see `apply`.

  Attributes:
    apply: what `update` and `optax.apply_updates` give together; None where
      the transform is not the one that it was made for.
    serves: whether that is a kernel's job here; None likewise.
  """

  apply: Apply | None = None
  serves: Serves | None = None

  def __new__(
    cls,
    init: optax.TransformInitFn,
    update: optax.TransformUpdateExtraArgsFn,
    apply: Apply | None = None,
    serves: Serves | None = None,
  ):
    """A transform's two functions, and the others."""
    self = super().__new__(cls, init, update)
    self.apply = apply
    self.serves = serves
    return self


def add(
  transform: optax.GradientTransformation, apply: Apply, serves: Serves
) -> InPlace:
  """The transform with `apply`."""
  extended = optax.with_extra_args_support(transform)
  return InPlace(extended.init, extended.update, apply, serves)


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
  that; where state and params are donated, it works in their memory.

  Args:
    tx: the optimizer.
    gradients: of the parameters' structure.
    state: of the optimizer.
    params: the parameters.
    impl: which kernel takes the step, by the names that the optimizer's op
      has (`kernels_pallas.adam_8bit_update`, `lion_8bit_update`,
      `momentum_8bit_update`); a tuple is tried in its order. None for the first
      that is proved here.
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
    step = tx.apply(gradients, state, params, impl=impl, **extra_args)
    return step.params, step.state
  if impl is not None:
    raise errors.UserError(
      f"optim.apply: impl={impl!r}: this optimizer has no kernel for whole"
      " steps; allowed: None. optim.adam_8bit, adamw_8bit, lion_8bit and"
      " momentum_8bit have."
    )
  step = by_update(tx, gradients, state, params, **extra_args)
  return step.params, step.state


def in_training(
  tx: optax.GradientTransformation,
  gradients: PyTree,
  state: PyTree,
  params: PyTree,
  scale: Array,
  *,
  keep_updates: bool,
) -> Step:
  """A step of a training run: by a kernel where one is proved for it.

  Args:
    tx: the optimizer.
    gradients: of the parameters' structure.
    state: of the optimizer.
    params: the parameters.
    scale: by which the gradients are multiplied.
    keep_updates: whether the updates are asked for, as an array.
  """
  if (
    not keep_updates
    and isinstance(tx, InPlace)
    and tx.apply is not None
    and tx.serves is not None
    and tx.serves(gradients, state, params)
  ):
    return tx.apply(gradients, state, params, scale=scale)
  return by_update(tx, gradients, state, params, scale)


def by_update(
  tx: optax.GradientTransformation,
  gradients: PyTree,
  state: PyTree,
  params: PyTree,
  scale: Array | float | None = None,
  **extra_args: Any,
) -> Step:
  """The step without a way of the optimizer's own."""
  if scale is not None:
    gradients = jax.tree.map(lambda g: g * scale, gradients)
  tx = optax.with_extra_args_support(tx)
  updates, state = tx.update(gradients, state, params, **extra_args)
  moved = optax.apply_updates(params, updates)
  return Step(moved, state, optax.tree.norm(updates), updates)


def multiplied(step: Step, params: PyTree, factor: Array) -> Step:
  """The step with its updates times a factor; of 0 the parameters, exactly.

  Args:
    step: with its updates; its state stays.
    params: before it.
    factor: a scalar.
  """
  updates = jax.tree.map(
    lambda u: jnp.where(factor == 0, jnp.zeros_like(u), factor * u),
    step.updates,
  )
  moved = optax.apply_updates(params, updates)
  norm = step.update_norm * jnp.abs(factor)
  return step._replace(params=moved, update_norm=norm, updates=updates)
