"""Steps of gradient descent on what adapts: what several methods share."""

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax

from normjax import validate
from normjax.adapt import affine, base
from normjax.nn.variables import Structure
from normjax.types import Array, PyTree

OPTIMIZERS = ("adam", "sgd")


def check(
  method: str, learning_rate: Any, optimizer: str, momentum: float
) -> None:
  """Raises UserError where an option is out of range."""
  validate.number(method, "learning_rate", learning_rate, least=0)
  validate.choice(method, "optimizer", optimizer, OPTIMIZERS)
  validate.number(method, "momentum", momentum, least=0, below=1)


def make(
  optimizer: str, learning_rate: Array | float, momentum: Array | float
) -> optax.GradientTransformation:
  """PyTorch's Adam or SGD; the momentum of Adam is its b1."""
  if optimizer == "adam":
    return optax.adam(learning_rate, b1=momentum)
  return optax.sgd(learning_rate, momentum=momentum)


def first(optimizer: str, values: dict[str, Array]) -> PyTree:
  """The optimizer's first state."""
  return make(optimizer, 0.0, 0.0).init(values)


def entropy(logits: Array) -> Array:
  """-sum(p log p) of each softmax, (n,), in nats; n counts positions too."""
  flat = logits.reshape(-1, logits.shape[-1])
  log_p = jax.nn.log_softmax(flat)
  return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)


def mean_of(values: Array, chosen: Array) -> Array:
  """The mean of the chosen values; 0, and so is its gradient, of none."""
  count = jnp.maximum(jnp.sum(chosen), 1)
  return jnp.sum(jnp.where(chosen, values, 0)) / count


def gradient(
  structure: Structure,
  variables: base.Variables,
  inputs: Array,
  paths: tuple[str, ...],
  loss: Callable[[Array, dict[str, Array]], tuple[Array, Any]],
  at: dict[str, Array] | None = None,
) -> tuple[dict[str, Array], Array, Any]:
  """The gradient of a loss of the logits in what adapts.

  Args:
    structure: of the model.
    variables: of the model.
    inputs: the batch.
    paths: of what adapts.
    loss: (logits, values of what adapts) to (loss, anything).
    at: other values of what adapts.

  Returns:
    The gradients by path, the logits, and that anything.
  """
  values = affine.of(variables["params"], paths) if at is None else at

  def measured(values: dict[str, Array]) -> tuple[Array, Any]:
    params = affine.into(variables["params"], values)
    logits, _ = base.predict(structure, {**variables, "params": params}, inputs)
    value, more = loss(logits, values)
    return value, (logits, more)

  gradients, (logits, more) = jax.grad(measured, has_aux=True)(values)
  return gradients, logits, more


def moved(
  variables: base.Variables,
  gradients: dict[str, Array],
  optimizer: optax.GradientTransformation,
  state: PyTree,
) -> tuple[base.Variables, PyTree]:
  """Variables and optimizer state after a step."""
  values = affine.of(variables["params"], tuple(gradients))
  updates, state = optimizer.update(gradients, state, values)
  values = cast(dict[str, Array], optax.apply_updates(values, updates))
  params = affine.into(variables["params"], values)
  return {**variables, "params": params}, state


def where(chosen: Array, new: PyTree, old: PyTree) -> PyTree:
  """One of two trees, by a traced truth."""
  return jax.tree.map(lambda a, b: jnp.where(chosen, a, b), new, old)
