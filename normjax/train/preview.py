"""What a run will give, from shapes alone: nothing is compiled or computed."""

import functools
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax

from normjax import build, configure, errors, objectives, procedures
from normjax.record import probed, sources, target
from normjax.registry import near_misses
from normjax.train import drawing, evaluate, program
from normjax.train import step as train_step
from normjax.train.sharding import layout

# The probes whose value is the whole name; others end in a statistic.
_SINGLE = ("gradient_norm", "effective_learning_rate", "weight_norm")


class Preview(NamedTuple):
  """Names that a run will write.

  Attributes:
    metrics: of `result.json`.
    values: of the probe rows.
  """

  metrics: tuple[str, ...]
  values: tuple[str, ...]

  @property
  def probes(self) -> tuple[str, ...]:
    """The names of values without the statistic at their end."""
    return tuple(map(_place, self.values))

  def unmatched(self, patterns: Iterable[str]) -> list[str]:
    """Those of `log.probes` that choose nothing."""
    return [
      pattern
      for pattern in patterns
      if not any(re.search(pattern, name) for name in self.probes)
    ]


def preview(config: configure.ConfigDict) -> Preview:
  """Traces model, optimizer and evaluation in shapes, the step where it tells.

  Raises:
    UserError: a model or an optimizer that cannot be built so.
  """
  dataset = build.dataset(config)
  evaluated = build.evaluation_dataset(config)
  recipe, initialize = program.recipe_and_initialize(config)
  hyper = _shapes(build.hyper(config))
  batch = _shapes(dataset.train_batch(0, 0, config.train.batch_size))
  state = program.state_in_shapes(config, recipe, initialize, hyper, batch)
  devices = layout.create(config, recipe, here=False)
  devices.abstract_state(state)  # Refuses what does not come out even.
  program.check_procedures(config, recipe, state.variables(), devices.mesh.size)
  evaluation_batch = _shapes(
    next(evaluated.evaluation_batches(config.evaluate.batch_size))
  )
  sums = _sums(config, recipe, devices, state, evaluation_batch, hyper)
  evaluate.check_examples(sums, recipe.metrics, evaluated, config.evaluate)
  measured: Iterable[str] = ()
  # What a user's own part does wrong in a step is seen before it is compiled.
  if recipe.probes or sources.components(config):
    _, measured = jax.eval_shape(
      devices.traced(functools.partial(train_step.train_step, recipe)),
      state,
      batch,
      hyper,
    )
  means = evaluate.mean_names(sums, recipe.metrics)
  names = evaluate.names(means, recipe.metrics, config.evaluate.corruptions)
  beyond = [
    name
    for procedure in procedures.of(config)
    for name in procedure.columns(evaluated)
  ]
  minimized = (objectives.MINIMIZED,) if recipe.procedure else ()
  return Preview(
    metrics=(
      *(f"eval/{name}" for name in (*names, *beyond)),
      *(f"train/{name}" for name in (*means, *train_step.MEASURED, *minimized)),
    ),
    values=tuple(name for name in measured if "/" in name),
  )


# Of the last evaluations of our own models, see `_evaluation_key`.
_SUMS: dict[str, objectives.Sums] = {}
_NUM_SUMS = 16


def _sums(
  config: configure.ConfigDict,
  recipe: train_step.Recipe,
  devices: layout.Layout,
  state: Any,
  batch: Any,
  hyper: Any,
) -> objectives.Sums:
  """What an evaluation sums, in shapes; traced once per `_evaluation_key`."""
  variables = jax.eval_shape(
    functools.partial(train_step.evaluation_variables, recipe), state
  )
  key = _evaluation_key(config)
  if key in _SUMS:
    return _SUMS[key]
  found = jax.eval_shape(
    devices.traced(functools.partial(train_step.evaluation_sums, recipe)),
    variables,
    batch,
    hyper,
  )
  if key:
    while len(_SUMS) >= _NUM_SUMS:
      del _SUMS[next(iter(_SUMS))]
    _SUMS[key] = found
  return found


def _evaluation_key(config: configure.ConfigDict) -> str:
  """Equal for configs that differ in how they train alone; "": code not ours.

  Rows of a table are optimizers of one model, and tracing a deep one takes
  most of a preview.
  """
  drawn = drawing.key(config)
  leaves = dict(configure.leaves(configure.to_dict(config)))
  blocks = ("optimizer.", "schedule.", "seed")
  own = {k: v for k, v in leaves.items() if not k.startswith(blocks)}
  return drawn and configure.digest([drawn, own])


def reads_activations(config: configure.ConfigDict) -> bool:
  """Whether a metric does: only the model's shapes tell what it needs."""
  asked = config.get("evaluate", {}).get("metrics")
  return bool(asked) and any(m.activations for m in build.metrics(config))


def check_metrics(option: str, wanted: Iterable[str], preview: Preview) -> None:
  """Raises UserError for a metric that no result, or no row, will have."""
  for metric in wanted:
    asked = probed.parse(metric)
    if asked is not None and asked.probe not in preview.values:
      raise errors.UserError(
        f"{option} {metric!r}: no probe row will have {asked.probe!r}."
        f"{near_misses(asked.probe, preview.values)} log.probes chooses"
        f" {len(preview.values)} values."
      )
    name, known = target.measured(metric), preview.metrics
    if asked is None and name not in known:
      raise errors.UserError(
        f"{option} {name!r} will be in no result.{near_misses(name, known)}"
        f" There will be: {', '.join(known)}."
      )


def check_probes(unmatched: Iterable[str]) -> None:
  """Raises UserError for patterns that choose nothing."""
  patterns = tuple(unmatched)
  if patterns:
    raise errors.UserError(
      f"log.probes: nothing matches {', '.join(map(repr, patterns))}; names"
      " begin with activation/, gradient/, gradient_norm/, update/, scale/,"
      " weight_norm/, effective_learning_rate/ or spectrum/, and go on with a"
      " path that `normjax show` prints."
    )


def _shapes(tree: Any) -> Any:
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), dict(tree)
  )


def _place(name: str) -> str:
  return name if name.startswith(_SINGLE) else name.rpartition("/")[0]
