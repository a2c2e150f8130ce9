"""Where a run meets its procedures: a step's gradients, an evaluation's end."""

import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from normjax import objectives
from normjax.metrics import Batch
from normjax.nn import output as nn_output
from normjax.procedures.base import Evaluated, Given, Learned
from normjax.train import frozen, param_dtype
from normjax.train.gradient import Estimate
from normjax.train.processes import distributed
from normjax.train.state import State
from normjax.types import Array, Hyper

if TYPE_CHECKING:
  from normjax.train.evaluate import Measured
  from normjax.train.lane import Lane
  from normjax.train.step import Recipe


def learn(
  recipe: "Recipe", state: State, batch: Batch, hyper: Hyper
) -> tuple[Learned, dict[str, Array]]:
  """What the procedure learns, and the objective's means of the batch.

  Arguments as of `step.train_step`.
  """
  assert recipe.procedure is not None
  assert recipe.num_outputs is not None
  params = param_dtype.widen(state.params)
  learned = recipe.procedure.gradients(
    Given(
      recipe.graphdef,
      frozen.select(params, recipe.trained),
      functools.partial(frozen.put_back, params),
      state.stats,
      state.memory,
      state.step,
      batch,
      hyper,
      recipe.num_outputs,
    )
  )
  output = nn_output.Output(learned.logits)
  sums = recipe.make_objective(hyper).sums(output, batch)
  total = jnp.maximum(jnp.sum(batch["weight"]), 1.0)
  means = {name: value / total for name, value in sums.items()}
  means[objectives.MINIMIZED] = learned.minimized
  return learned, means


def estimate(
  recipe: "Recipe", state: State, batch: Batch, hyper: Hyper
) -> Estimate:
  """What `learn` gives the optimizer; the backward statistics stay."""
  learned, metrics = learn(recipe, state, batch, hyper)
  return Estimate(
    learned.gradients,
    learned.stats,
    state.grad_stats,
    metrics,
    memory=learned.memory,
  )


def facts(lane: "Lane") -> dict[str, Any]:
  """What run.json says of the procedures of a lane."""
  found: dict[str, Any] = {}
  for procedure in lane.procedures:
    found |= procedure.facts(lane.dataset)
  return found


def measure(lane: "Lane", measured: "Measured") -> dict[str, float]:
  """What the procedures of a lane measure of its state.

  Args:
    lane: at an evaluation.
    measured: of that evaluation.

  Raises:
    Stopped: a signal came.
  """
  from normjax.train import evaluate  # Late: they read steps.
  from normjax.train import step as train_step

  assert lane.held is not None
  recipe = lane.program.recipe
  variables = train_step.evaluation_variables(recipe, lane.held.state)
  evaluated = Evaluated(
    recipe.graphdef,
    jax.device_get(distributed.whole(variables)),
    lane.dataset,
    lane.evaluated,
    lane.config.seed,
    measured.means,
    lane.recorder.evaluations,
    lane.is_last,
  )
  found: dict[str, float] = {}
  try:
    with lane.recorder.clock.measure("eval"):
      for procedure in lane.procedures:
        found |= procedure.measure(evaluated)
  except KeyboardInterrupt as error:
    raise evaluate.Stopped from error
  return found
