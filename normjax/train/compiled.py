"""The functions of a program: traced, and compiled when they are asked for."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from normjax.metrics import Metric
from normjax.train import frozen as frozen_lib
from normjax.train import state as train_state
from normjax.train import step as train_step
from normjax.train.sharding import layout as layout_lib


class Arguments(NamedTuple):
  """What the functions of a program are given, in shapes.

  Attributes:
    batch: of training.
    evaluation_batch: of an evaluation.
    hyper: the run's scalars.
  """

  batch: Any
  evaluation_batch: Any
  hyper: Any


class Lowered(NamedTuple):
  """The functions of a program, traced and not yet compiled.

  Attributes:
    recipe: what they are made from.
    layout: where arrays lie.
    initialize: see `recipe_and_initialize`.
    abstract: its arguments, and those of an evaluation.
    state: what it gives, abstract.
    shardings: of the state.
    step: lowered, and so on as in `Program`.
    evaluate: likewise.
  """

  recipe: train_step.Recipe
  layout: layout_lib.Layout
  initialize: Callable[..., train_state.State]
  abstract: Arguments
  state: train_state.State
  shardings: train_state.State
  step: Any
  evaluate: Any


@dataclasses.dataclass
class Program:
  """Ahead-of-time compiled functions, and what compiling them took.

  The step and the evaluation are compiled when they are first asked for, or
  by `get`: members of a population need neither.

  Attributes:
    layout: where its arrays lie.
    initialize: (hyper, first training batch, start steps=()) -> State; the
      steps as in `recipe_and_initialize`. The batch matters to models with
      `initialize_on` alone.
    lowered: its functions before they are compiled.
    snapshot: (State) -> a copy that later steps do not overwrite.
    abstract_state: shapes, dtypes and shardings.
    compile_s: seconds of tracing and compilation, so far.
    kernels: op to the implementations that were chosen while tracing.
    kernels_refused: op to why those that it prefers were not.
    matmul_precision: what the operands of float32 products are rounded to.
    recipe: what they are made from.
    abstract: the arguments that they are compiled for.
    compiler_options: of the step.
  """

  layout: layout_lib.Layout
  initialize: Callable[..., Any]
  lowered: Lowered
  snapshot: Callable[..., Any]
  abstract_state: train_state.State
  compile_s: float
  kernels: dict[str, list[str]]
  kernels_refused: dict[str, dict[str, list[str]]]
  matmul_precision: str
  recipe: train_step.Recipe
  abstract: Arguments
  compiler_options: dict[str, Any] | None
  _billed_s: float = 0.0

  @functools.cached_property
  def step(self) -> Any:
    """(State, batch, hyper) -> (State, metrics); donates the state."""
    with self._timed():
      return self.lowered.step.compile(self.compiler_options)

  @functools.cached_property
  def evaluate(self) -> Any:
    """(State, batch, hyper) -> sums."""
    with self._timed():
      return self.lowered.evaluate.compile()

  @contextlib.contextmanager
  def _timed(self) -> Iterator[None]:
    start_s = time.perf_counter()
    yield
    self.compile_s += time.perf_counter() - start_s

  def bill_s(self) -> float:
    """Seconds of `compile_s` that no run has been told of."""
    seconds = self.compile_s - self._billed_s
    self._billed_s = self.compile_s
    return seconds

  @property
  def metrics(self) -> tuple[Metric, ...]:
    """What an evaluation finishes its sums with."""
    return self.recipe.metrics

  def sizes(self, state: train_state.State) -> dict[str, int]:
    """How much there is of parameters and of the optimizer's state."""
    from normjax import optim

    moving = frozen_lib.select(state.params, self.recipe.trained)
    return {
      "num_params": train_state.num_params(state.params),
      "num_trained_params": train_state.num_params(moving),
      "optimizer_state_bytes": optim.state_bytes(state.optimizer_state),
    }


def flops(compiled: Any) -> float | None:
  """The compiler's count; None where it has none."""
  return (compiled.cost_analysis() or {}).get("flops")


def peak_bytes(compiled: Any) -> int:
  """Arguments, temporaries and outputs, as the compiler reports them."""
  memory = compiled.memory_analysis()
  return (
    memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    - memory.alias_size_in_bytes
    + memory.temp_size_in_bytes
  )
