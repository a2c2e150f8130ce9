"""A run's program without its training: what a finished run is opened with."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax import nnx

from normjax import build, configure
from normjax.metrics import Metric
from normjax.nn import variables as nn_variables
from normjax.train import program
from normjax.train import step as train_step
from normjax.train.sharding import layout as layout_lib
from normjax.train.sharding import layout_axes
from normjax.train.state import State
from normjax.types import Hyper


class Opened(NamedTuple):
  """What a config says, in shapes alone.

  Attributes:
    recipe: the static choices.
    layout: where arrays lie on this machine.
    state: shapes, dtypes and shardings of a state.
    hyper: the scalars, on the devices.
  """

  recipe: train_step.Recipe
  layout: layout_lib.Layout
  state: State
  hyper: Hyper


class Evaluator(NamedTuple):
  """Of a `program.Program` what an evaluation needs."""

  layout: layout_lib.Layout
  evaluate: Callable[..., Any]
  metrics: tuple[Metric, ...]


def open_config(config: configure.ConfigDict) -> Opened:
  """Builds what the config names; nothing is compiled.

  A machine with fewer devices than the config asks for gets along with its
  own; sums over a batch may then differ in the last bits.

  Raises:
    UserError: what `program.recipe_and_initialize` raises.
  """
  program.enable_cache()
  recipe, initialize = program.recipe_and_initialize(config)
  layout = _layout(config, recipe)
  hyper = build.hyper(config)
  batch = build.dataset(config).train_batch(0, 0, config.train.batch_size)
  state = jax.eval_shape(
    initialize, hyper, layout_lib.abstract(dict(batch), layout.batch)
  )
  return Opened(
    recipe, layout, layout.abstract_state(state), layout.put_scalars(hyper)
  )


def _layout(
  config: configure.ConfigDict, recipe: train_step.Recipe
) -> layout_lib.Layout:
  """As the config says where that goes here; else data parallel over the most.

  A split model that fits on fewer devices is whole on each of them.
  """
  asked, there = layout_axes.asked(config), jax.device_count()
  if asked.least > 1 and max(asked.least, asked.num_devices) <= there:
    return layout_lib.create(config, recipe)
  devices = min(asked.num_devices or there, there)
  while config.evaluate.batch_size % devices:
    devices -= 1
  return layout_lib.data_parallel(
    {"data": devices}, recipe.roles, jax.devices()
  )


def place(opened: Opened, state: State) -> State:
  """A state of NumPy's arrays, on the devices."""
  shardings = jax.tree.map(lambda leaf: leaf.sharding, opened.state)
  return jax.device_put(state, shardings)


def variables(opened: Opened, state: State) -> dict[str, Any]:
  """What the model is evaluated with, by collection."""
  return train_step.evaluation_variables(opened.recipe, state)


def model(opened: Opened, state: State) -> nnx.Module:
  """The model, in evaluation mode."""
  made = nn_variables.merge(opened.recipe.graphdef, variables(opened, state))
  made.eval()
  return made


def evaluator(opened: Opened, more: tuple[Metric, ...] = ()) -> Evaluator:
  """The function of the run's evaluations.

  Args:
    opened: the run.
    more: metrics beside the run's own, of other names.
  """
  recipe = opened.recipe._replace(metrics=(*opened.recipe.metrics, *more))
  return Evaluator(
    opened.layout,
    program.evaluation_function(recipe, opened.layout),
    recipe.metrics,
  )
