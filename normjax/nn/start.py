"""Steps between the model that a config describes and the one that trains.

A start step maps (model, variables) to (model, variables), both as
`variables.split` gives them: another run's checkpoint, norms folded into
convolutions, a conversion. Steps run once, in order, before the program of the
run is compiled; none of them is part of it.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from flax import nnx

from normjax import errors
from normjax.nn import variables as nn_variables
from normjax.nn.variables import Structure
from normjax.types import Array, PyTree

Variables = dict[str, PyTree]

_MOST_NAMED = 3


def _fits(model: Structure, shapes: Variables) -> None:
  """The check of a step that fits every model, or that says it in `apply`."""


@dataclasses.dataclass(frozen=True)
class StartStep:
  """One step; a factory of the table in `convert` makes it from its options.

  Attributes:
    apply: (model, variables) -> (model, variables); changes neither argument.
    changes_structure: whether the model, or a name, a shape or a dtype of its
      variables, becomes another one. Then `apply` is called with
      `jax.ShapeDtypeStruct`s first, by `jax.eval_shape`, and again when a run
      is resumed, and the step's text is part of the program's key. False is
      for steps that only give the variables other values, in any dtype: they
      are called once, and not on resume, which needs none of what they read.
    check: (model, shapes of its variables) raises UserError where the step
      cannot be taken from there; called before anything is computed.
    name: begins the message of whatever goes wrong.
    reads_inputs: whether `apply` takes a third argument, the inputs of the
      run's first batch; None where only shapes are asked for.
    steps_needed: (model, shapes of its variables) to the training steps that
      what the step begins takes, as a schedule of its own; None: any number
      does.
  """

  apply: Callable[..., tuple[Structure, Variables]]
  changes_structure: bool = True
  check: Callable[[Structure, Variables], None] = _fits
  name: str = "start step"
  reads_inputs: bool = False
  steps_needed: Callable[[Structure, Variables], int] | None = None

  def __post_init__(self):
    """Raises UserError for what cannot be called, such as another step."""
    if not callable(self.apply):
      raise errors.UserError(
        f"StartStep: apply is a {type(self.apply).__name__}; needed: a function"
        " (model, variables) -> (model, variables)."
      )


def of_module(
  change: Callable[[nnx.Module], nnx.Module],
  changes_structure: bool = True,
  steps_needed: Callable[[nnx.Module], int] | None = None,
) -> StartStep:
  """The step that a function of modules is.

  Args:
    change: pure and traceable by jax: it may look at the module's structure
      and at the shapes of its variables, but not at their values.
    changes_structure: see `StartStep`.
    steps_needed: see `StartStep`; of the module.
  """

  def apply(
    model: Structure, variables: Variables
  ) -> tuple[Structure, Variables]:
    made = []

    def changed(variables: Variables) -> Variables:
      new, variables = nn_variables.split(
        change(nn_variables.merge(model, variables))
      )
      made.append(new)
      return variables

    variables = jax.jit(changed)(variables)
    return made[0], variables

  def needed(model: Structure, shapes: Variables) -> int:
    assert steps_needed is not None
    return steps_needed(nn_variables.merge(model, shapes))

  return StartStep(
    apply, changes_structure, steps_needed=steps_needed and needed
  )


def apply(
  steps: Sequence[StartStep],
  model: Structure,
  variables: Variables,
  inputs: Any = None,
) -> tuple[Structure, Variables]:
  """All steps, one after the other, on arrays.

  Args:
    steps: in order.
    model: that the first one gets.
    variables: its own.
    inputs: of a batch, for steps that read some.

  Raises:
    UserError: what a step raises; a step that has changed the structure and
      says that it does not; no inputs for one that reads some.
  """
  for step in steps:
    with _naming(step):
      before = variables
      read = (inputs,) if step.reads_inputs else ()
      if step.reads_inputs and inputs is None:
        raise errors.UserError("reads inputs of a batch; there is none here.")
      model, variables = step.apply(model, variables, *read)
      if not step.changes_structure:
        check_same("must keep the structure, and does not", variables, before)
        variables = jax.tree.map(_in_place_of, before, variables)
  return model, variables


def _in_place_of(old: Array, new: Array) -> Array:
  return jax.device_put(new.astype(old.dtype), old.sharding)


def in_shapes(
  steps: Sequence[StartStep], model: Structure, shapes: Variables
) -> tuple[Structure, Variables]:
  """What `apply` gives, without a value: values-only steps are left out.

  Raises:
    UserError: what a step raises.
  """
  for step in steps:
    if step.changes_structure:
      model, shapes = _trace(step, model, shapes)
  return model, shapes


def check(
  steps: Sequence[StartStep],
  model: Structure,
  shapes: Variables,
  *,
  resumes: bool = False,
  num_steps: int | None = None,
) -> None:
  """Checks each step where it will be taken, without computing anything.

  Args:
    steps: in order.
    model: that the first one gets.
    shapes: of its variables.
    resumes: whether values come from elsewhere, so that only what changes the
      structure matters.
    num_steps: of the run that follows; None: not known.

  Raises:
    UserError: the first step that does not fit, or that needs more training
      steps; the message begins with its name.
  """
  for i, step in enumerate(steps):
    if resumes and not step.changes_structure:
      continue
    with _naming(step):
      step.check(model, shapes)
      # A run that is read later may be some way into the schedule.
      if num_steps is not None and all(s.changes_structure for s in steps[i:]):
        _check_length(step, model, shapes, num_steps)
    model, shapes = in_shapes([step], model, shapes)


def _check_length(
  step: StartStep, model: Structure, shapes: Variables, num_steps: int
) -> None:
  if step.steps_needed is None:
    return
  needed = step.steps_needed(model, shapes)
  if num_steps < needed:
    raise errors.UserError(
      f"its schedule ends at step {needed}, after the run's last:"
      f" train.num_steps={num_steps}; needed: {needed} or more, or a shorter"
      " schedule."
    )


def check_same(problem: str, theirs: Variables, ours: Variables) -> None:
  """Raises UserError unless both have the same names, of the same shapes.

  Args:
    problem: begins the message.
    theirs: arrays, or anything with a shape, in nested dicts.
    ours: those of the model.
  """
  found = list(_differences(theirs, ours))
  if found:
    few = errors.few(found, _MOST_NAMED, "; ")
    raise errors.UserError(f"{problem}: {few}.")


def _differences(theirs: Variables, ours: Variables) -> Iterator[str]:
  """What is missing, left over or of another shape, leaf by leaf."""
  there, here = _shapes(theirs), _shapes(ours)
  for path in sorted(there.keys() | here.keys()):
    if path not in there:
      yield f"it has no {path}"
    elif path not in here:
      yield f"its {path} has no place in this one"
    elif there[path] != here[path]:
      yield f"{path} is {there[path]} there and {here[path]} here"


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  return {
    "/".join(key.key for key in path): tuple(leaf.shape)
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
  }


def _trace(
  step: StartStep, model: Structure, shapes: Variables
) -> tuple[Structure, Variables]:
  made = []

  def traced(variables: Variables) -> Variables:
    new, variables = step.apply(model, variables)
    made.append(new)
    return variables

  with _naming(step):
    shapes = jax.eval_shape(traced, shapes)
  return made[0], shapes


@contextlib.contextmanager
def _naming(step: StartStep) -> Iterator[None]:
  try:
    yield
  except errors.UserError as error:
    raise type(error)(f"{step.name}: {error}") from error
