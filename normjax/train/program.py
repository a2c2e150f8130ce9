"""The compiled functions of a run, shared by all runs of one program."""

import functools
import os
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kernels_pallas import dispatch
from normjax import build, configure, data, errors, procedures
from normjax.data import dataset as dataset_lib
from normjax.nn import model_roles, start
from normjax.nn import variables as nn_variables
from normjax.train import (
  average,
  block_gradients,
  drawing,
  fit,
  gradient,
  layer_decay,
  mixup,
  param_dtype,
  precision,
  restarts,
  schedules,
)
from normjax.train import frozen as frozen_lib
from normjax.train import state as train_state
from normjax.train import step as train_step
from normjax.train.compiled import Arguments, Lowered, Program
from normjax.train.processes import distributed
from normjax.train.sharding import layout as layout_lib


def enable_cache() -> None:
  """Keeps compiled programs on disk, unless jax was told where already."""
  if jax.config.jax_compilation_cache_dir is not None:
    return
  # XLA's CPU programs are laid out for the cores that they may use.
  cores = len(os.sched_getaffinity(0))
  directory = data.cache_dir() / f"xla-{cores}-cores"
  jax.config.update("jax_compilation_cache_dir", str(directory))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


# What a GPU's compiler is told by `train.deterministic`.
DETERMINISTIC = {"xla_gpu_deterministic_ops": True}
_PROGRAMS: dict[str, Program] = {}


def get(config: configure.ConfigDict) -> tuple[Program, bool]:
  """The program of a config, and whether it was compiled just now."""
  program = traced(config)
  is_new = "step" not in vars(program)
  _ = program.step, program.evaluate  # Asked for, hence compiled.
  return program, is_new


def traced(config: configure.ConfigDict) -> Program:
  """The program of a config; of its functions only `initialize` is compiled."""
  key = build.program_key(config)
  if key not in _PROGRAMS:
    try:
      _PROGRAMS[key] = _trace(config)
    except dispatch.UnsupportedError as error:
      raise errors.UserError(str(error)) from error
  return _PROGRAMS[key]


def state_in_shapes(
  config: configure.ConfigDict,
  recipe: train_step.Recipe,
  initialize: Callable[..., train_state.State],
  hyper: Any,
  batch: Any,
) -> train_state.State:
  """The state that `initialize(hyper, batch)` gives, in shapes.

  The model is not drawn again where its shapes say it all.

  Args:
    config: of the run.
    recipe: of `recipe_and_initialize`.
    initialize: beside it.
    hyper: abstract.
    batch: abstract.
  """
  if drawing.key(config) and not _changes(config):
    drawn = drawing.of(config)
    if not drawn.reads_batch:
      return jax.eval_shape(recipe.start, drawn.shapes, hyper)
  return jax.eval_shape(initialize, hyper, batch)


def check_start(config: configure.ConfigDict, *, resumes: bool = False) -> None:
  """Checks the steps of `train.initialize_from`, in shapes alone.

  Args:
    config: of the run.
    resumes: whether a checkpoint of the run itself gives the values.

  Raises:
    UserError: a step that does not fit the model it would get, that does not
      find what it reads, or whose schedule is longer than the run; what
      `drawing.of` raises.
  """
  steps = build.start_steps(config)
  if steps:
    drawn = drawing.of(config)
    start.check(
      steps,
      drawn.model,
      drawn.shapes,
      resumes=resumes,
      # What runs already stays as it was begun.
      num_steps=None if resumes else config.train.num_steps,
    )


def _changes(config: configure.ConfigDict) -> tuple[start.StartStep, ...]:
  """The start steps that shape the program."""
  return tuple(s for s in build.start_steps(config) if s.changes_structure)


def recipe_and_initialize(
  config: configure.ConfigDict,
) -> tuple[train_step.Recipe, Callable[..., train_state.State]]:
  """The uncompiled parts of a program.

  Returns:
    The recipe, and (hyper, batch=None, steps=()) -> State. The steps are all
    those of a run's start; without them those are taken that change the
    structure, which are the same for all runs of the program.

  Raises:
    UserError: what `drawing.of`, the start steps and `average.check` raise.
  """
  # Captures an immutable copy: the caller may go on editing its config.
  frozen = configure.override(config, {})
  average.check(frozen)
  param_dtype.check(frozen)
  drawn = drawing.of(frozen)
  structure, shapes, roles = drawn.model, drawn.shapes, None
  if changes := _changes(config):
    structure, shapes = start.in_shapes(changes, structure, shapes)
    roles = model_roles.of(nn_variables.merge(structure, shapes))
  roles = roles or drawn.roles()
  trained = frozen_lib.trained_paths(
    roles,
    norms_frozen=config.train.norms_frozen,
    output_frozen=config.train.output_frozen,
    others_frozen=config.train.others_frozen,
  )

  recipe = train_step.Recipe(
    graphdef=structure,
    make_optimizer=param_dtype.make_optimizer(
      frozen, layer_decay.make_optimizer(frozen, roles)
    ),
    schedule=schedules.of_config(frozen),
    make_objective=lambda hyper: build.objective(frozen, hyper),
    accumulation_steps=config.train.accumulation_steps,
    probes=tuple(config.log.probes),
    roles=roles,
    trained=trained,
    metrics=build.metrics(config),
    model_name=config.model.name,
    num_outputs=fit.num_outputs(build.dataset(config)),
    mixup_mode=configure.optional(config, mixup.MODE),
    ema_warmup=configure.optional(config, average.WARMUP),
    weights=configure.optional(config, average.WEIGHTS),
    matmul_precision=precision.choice(config),
    param_dtype=configure.optional(config, param_dtype.DTYPE),
    **_learning(config),
    block_gradients=block_gradients.way(config),
    layer_restarts=restarts.of(frozen, structure, shapes),
    optimizer_name=config.optimizer.name,
    gradient=gradient.of(config),
  )
  recipe.gradient.check(recipe)
  restarts.check(frozen, recipe, shapes)
  draw, begin = jax.jit(drawn.draw), jax.jit(recipe.start)

  def initialize(hyper, batch=None, steps=()):
    with precision.applied(recipe.matmul_precision):
      return begun(hyper, batch, steps)

  def begun(hyper, batch, steps):
    if not (steps := steps or changes):
      return recipe.start(drawn.draw(hyper, batch), hyper)
    # Steps stay outside: what one reads from disk is no constant of a program.
    inputs = None if batch is None else batch["inputs"]
    drawn_variables = draw(hyper, batch)
    _, variables = start.apply(steps, drawn.model, drawn_variables, inputs)
    start.check_same(
      "train.initialize_from: the last step gave another model than it"
      " announced",
      variables,
      shapes,
    )
    return begin(variables, hyper)

  return recipe, initialize


def _learning(config: configure.ConfigDict) -> dict[str, Any]:
  """What a recipe has of a procedure that learns, if one does."""
  learning = [each for each in procedures.of(config) if each.learns]
  if not learning:
    return {}
  (procedure,) = learning  # `check` refuses two.
  memory = functools.partial(procedure.memory, build.dataset(config))
  return {"procedure": procedure, "memory": memory}


def check_procedures(
  config: configure.ConfigDict,
  recipe: train_step.Recipe,
  variables: Any,
  num_devices: int,
) -> None:
  """Raises UserError for a model that a procedure cannot be done with."""
  for procedure in procedures.of(config):
    procedure.check_model(
      recipe.graphdef, variables, build.dataset(config), num_devices
    )


def evaluation_function(
  recipe: train_step.Recipe, layout: layout_lib.Layout
) -> Any:
  """(State, batch, hyper) -> sums, jitted."""
  evaluation = functools.partial(train_step.evaluation_step, recipe)
  return jax.jit(layout.traced(evaluation), out_shardings=layout.everywhere)


def lower(config: configure.ConfigDict) -> Lowered:
  """Traces the functions of a program, in shapes alone.

  Raises:
    UserError: what does not fit.
  """
  recipe, initialize = recipe_and_initialize(config)
  layout = layout_lib.create(config, recipe)
  micro_size = config.train.batch_size // config.train.accumulation_steps
  layout.check_batch("train.batch_size / accumulation", micro_size)
  layout.check_batch("evaluate.batch_size", config.evaluate.batch_size)
  dataset = build.dataset(config)
  sizes = {
    "training": config.train.batch_size,
    "evaluation": config.evaluate.batch_size,
  }
  batches = {
    "training": dataset.train_batch(0, 0, sizes["training"]),
    "evaluation": next(
      build.evaluation_dataset(config).evaluation_batches(sizes["evaluation"])
    ),
  }
  for name, batch in batches.items():
    dataset_lib.check_batch(dataset, batch, sizes[name])
  fit.check_ids(config, dataset, batches)
  hyper = layout_lib.abstract(build.hyper(config), layout.everywhere)
  batch, evaluation_batch = (
    layout_lib.abstract(dict(batches[name]), layout.batch)
    for name in ("training", "evaluation")
  )
  state = layout.abstract_state(jax.eval_shape(initialize, hyper, batch))
  check_procedures(config, recipe, state.variables(), layout.mesh.size)
  shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
  step = jax.jit(
    layout.traced(functools.partial(train_step.train_step, recipe)),
    donate_argnums=0,
    out_shardings=(shardings, layout.everywhere),
  ).lower(state, batch, hyper)
  evaluate = evaluation_function(recipe, layout).lower(
    state, evaluation_batch, hyper
  )
  return Lowered(
    recipe,
    layout,
    initialize,
    Arguments(batch, evaluation_batch, hyper),
    state,
    shardings,
    step,
    evaluate,
  )


def _trace(config: configure.ConfigDict) -> Program:
  enable_cache()
  start_s = time.perf_counter()
  with dispatch.recording() as kernels, dispatch.refusals() as refused:
    lowered = lower(config)
  shardings = lowered.shardings
  return Program(
    layout=lowered.layout,
    initialize=_initializer(
      lowered.initialize,
      lowered.abstract.hyper,
      lowered.abstract.batch,
      shardings,
      is_whole=not _changes(config),
    ),
    lowered=lowered,
    snapshot=jax.jit(
      lambda state: jax.tree.map(jnp.copy, state), out_shardings=shardings
    ),
    abstract_state=lowered.state,
    compile_s=time.perf_counter() - start_s,
    kernels=kernels,
    kernels_refused=refused,
    matmul_precision=precision.meaning(precision.choice(config)).operands,
    recipe=lowered.recipe,
    abstract=lowered.abstract,
    compiler_options=_compiler_options(config),
  )


def _initializer(
  initialize: Callable[..., train_state.State],
  hyper: Any,
  batch: Any,
  shardings: train_state.State,
  *,
  is_whole: bool,
) -> Callable[..., train_state.State]:
  """`initialize`, its arrays where those of the state lie.

  Args:
    initialize: see `recipe_and_initialize`.
    hyper: its first argument, abstract.
    batch: its second.
    shardings: of what it returns.
    is_whole: whether it can be compiled: no start step changes the structure.
  """
  if not is_whole:
    # Steps read and change values; of other processes' devices they cannot.
    return lambda *arguments: distributed.put(
      initialize(*distributed.whole(arguments)), shardings
    )
  compiled = (
    jax.jit(initialize, out_shardings=shardings).lower(hyper, batch).compile()
  )

  def placed(hyper, batch, steps=()):
    if not steps:
      return compiled(hyper, batch)
    given = distributed.whole((hyper, batch))
    return distributed.put(initialize(*given, steps), shardings)

  return placed


def _compiler_options(config: configure.ConfigDict) -> dict[str, Any] | None:
  if not config.train.deterministic or jax.default_backend() != "gpu":
    return None
  return dict(DETERMINISTIC)
