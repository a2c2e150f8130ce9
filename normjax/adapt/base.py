"""What an adapter is, and how it calls its model."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from normjax import errors
from normjax.adapt.seen import SEEN, Sight
from normjax.nn import calling
from normjax.nn import output as outputs
from normjax.nn.variables import Structure, merge, new_stats, split
from normjax.norms import moments
from normjax.types import Array, PyTree

Variables = dict[str, PyTree]


class State(NamedTuple):
  """A model on its way; a pytree of arrays.

  Attributes:
    variables: of the model as it is now: "params", "stats", "grad_stats".
    scalars: the method's numbers, by option. They are data of the step and not
      part of its program: another learning rate is no other compilation.
    own: what the method keeps beside.
  """

  variables: Variables
  scalars: Mapping[str, Array] = {}
  own: PyTree = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Adapter:
  """A method, set on a model.

  Attributes:
    name: of the method.
    seen: what the logits of a step have seen; `normjax.adapt.seen` has the
      words.
    structure: of the model, its norms as the method needs them.
    init_fn: key to the first state.
    step_fn: (state, inputs) to (logits, state); pure.
    fit_fn: (state, batches of inputs) to a state; None where a method has no
      such pass.
  """

  name: str
  seen: Sight
  structure: Structure
  init_fn: Callable[[Array], State]
  step_fn: Callable[[State, Array], tuple[Array, State]]
  fit_fn: Callable[[State, Iterable[Any]], State] | None = None

  def init(self, key: Array | None = None) -> State:
    """The first state: the model as it was trained.

    Its arrays are its own, so that a step may be given them for good.

    Args:
      key: of what the method draws; None is `jax.random.key(0)`.
    """
    key = jax.random.key(0) if key is None else key
    return jax.tree.map(jnp.copy, self.init_fn(key))

  def step(self, state: State, inputs: Array) -> tuple[Array, State]:
    """Predicts a batch and adapts to it.

    Args:
      state: from `init`, `fit` or the step before.
      inputs: (b, …), as the model is called with. A last batch of another
        size is another program; padding would enter statistics.

    Returns:
      The logits (b, …, classes), which have seen what `seen` says, and the
      state for the next batch.

    Raises:
      UserError: a batch that is too small for the method, as one vector of
        features is for statistics of a batch.
    """
    return self.step_fn(state, inputs)

  @functools.cached_property
  def compiled(self) -> Callable[[State, Array], tuple[Array, State]]:
    """`step` under `jax.jit`, compiled once per shape of a batch.

    States of another adapter of the same method, options and model, but of
    other weights, are arguments as well: models that differ in their seed share
    the program.
    """
    return jax.jit(self.step)

  def fit(
    self,
    stream: Iterable[Any],
    key: Array | None = None,
    start: State | None = None,
  ) -> State:
    """The state after a pass over a stream that is not predicted.

    Args:
      stream: batches of inputs.
      key: as in `init`.
      start: what it begins with; None: `init(key)`.

    Raises:
      UserError: the method has no such pass, or the stream is empty.
    """
    if self.fit_fn is None:
      raise errors.UserError(
        f"{self.name} has no fit: it starts from init(key). adabn has one."
      )
    return self.fit_fn(self.init(key) if start is None else start, stream)

  def model(self, state: State) -> nnx.Module:
    """The model as a state has it, in evaluation mode."""
    model = merge(self.structure, state.variables)
    model.eval()
    return model


def adapter(
  name: str,
  model: nnx.Module,
  step: Callable[[Structure, State, Array], tuple[Array, State]],
  *,
  scalars: Mapping[str, Any] | None = None,
  own: Callable[[Variables, Array], PyTree] = lambda variables, key: (),
  fit: Callable[[Structure, State, Iterable[Any]], State] | None = None,
) -> Adapter:
  """An adapter from the functions of a method.

  Args:
    name: of the table.
    model: its norms already as the method needs them (`sites`).
    step: (structure, state, inputs) to (logits, state).
    scalars: numbers of the options that are traced.
    own: (variables, key) to the first `State.own`.
    fit: (structure, state, batches) to a state.
  """
  structure, variables = split(model)
  # Weakly typed, as numbers are: they widen no float32.
  traced = {key: jnp.asarray(value) for key, value in (scalars or {}).items()}

  def init(key: Array) -> State:
    return State(variables, traced, own(variables, key))

  return Adapter(
    name=name,
    seen=SEEN[name],
    structure=structure,
    init_fn=init,
    step_fn=lambda state, inputs: step(structure, state, inputs),
    fit_fn=None if fit is None else lambda s, stream: fit(structure, s, stream),
  )


def predict(
  structure: Structure, variables: Variables, inputs: Array
) -> tuple[Array, PyTree]:
  """(logits, statistics after the call), the model called as in evaluation.

  What the norms do is theirs to know: see `sites`. Logits are float32 at
  least: entropies and thresholds are made of them.
  """
  model = merge(structure, variables)
  returned = calling.call(model, inputs, train=False)
  logits = moments.promote(outputs.as_output(returned).logits)
  return logits, new_stats(structure, model, variables["stats"])


def by_statistics(
  structure: Structure, state: State, inputs: Array
) -> tuple[Array, State]:
  """A step in which statistics alone may move."""
  logits, stats = predict(structure, state.variables, inputs)
  variables = {**state.variables, "stats": stats}
  return logits, state._replace(variables=variables)


def keeps_state(
  structure: Structure, state: State, inputs: Array
) -> tuple[Array, State]:
  """A step in which nothing moves."""
  return predict(structure, state.variables, inputs)[0], state
