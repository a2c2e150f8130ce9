"""The pure training and evaluation steps."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Concatenate, NamedTuple

import jax
import jax.numpy as jnp
import optax

from normjax import errors, objectives, optim, outside, rng
from normjax.metrics import Batch, Metric
from normjax.nn import calling, given
from normjax.nn import output as nn_output
from normjax.nn import variables as nn_variables
from normjax.nn.model_roles import Roles
from normjax.norms import modes
from normjax.optim import in_place
from normjax.procedures.base import Procedure
from normjax.record import probes
from normjax.record.files import ROW_KEYS
from normjax.train import (
  average,
  block_gradients,
  by_procedure,
  captured,
  frozen,
  leaf_by_leaf,
  measure,
  mixup,
  param_dtype,
  passes,
  precision,
  restarts,
)
from normjax.train.gradient import Estimate, Gradient
from normjax.train.state import State, create
from normjax.types import Array, Hyper, PyTree

# What a training row has, beside the means of the objective and the probes
# that were asked for.
MEASURED = ("grad_norm", "update_norm", "learning_rate")


class Recipe(NamedTuple):
  """The static choices of a program."""

  graphdef: Any  # The model without its variables.
  # (scalars, fraction of the peak learning rate = 1) -> optax transform. It
  # closes over traced scalars, so that each traced function makes its own:
  # `start` and `train_step`, and nobody else.
  make_optimizer: Callable[..., optax.GradientTransformationExtraArgs]
  schedule: Callable[[Array, Mapping[str, Array]], Array]
  make_objective: Callable[[Hyper], objectives.Objective]
  accumulation_steps: int
  probes: tuple[str, ...]
  roles: Roles  # Of the model's variables.
  trained: frozen.Trained = None  # Paths of the parameters that move.
  metrics: tuple[Metric, ...] = ()  # Of an evaluation, beside the means.
  model_name: str = ""  # As in the config, for messages.
  num_outputs: int | None = None  # The data's classes; None: any number.
  mixup_mode: str = "batch"  # See `mixup.Options`; scalars say whether.
  ema_warmup: bool = False  # See `average`.
  weights: str = "trained"  # What an evaluation reads, or "ema".
  matmul_precision: str = "float32"  # See `precision`.
  param_dtype: str = "float32"  # What parameters are held in.
  gradient: Gradient = Gradient()  # What the optimizer is given.
  # What takes the gradients in place of that, and its first memory.
  procedure: Procedure | None = None
  memory: Callable[[], PyTree] = lambda: None
  block_gradients: str = "all"  # See `block_gradients.way`.
  layer_restarts: restarts.Restarts | None = None
  optimizer_name: str = ""  # As in the config, for messages.

  def start(self, variables: dict[str, PyTree], hyper: Hyper) -> State:
    """The state before step 0 on these variables."""
    params = param_dtype.narrow(variables["params"], self.param_dtype)
    moving = frozen.select(params, self.trained)
    optimizer_state = self.make_optimizer(hyper).init(moving)
    averaged = None
    if average.DECAY in hyper:
      wide = frozen.select(variables["params"], self.trained)
      averaged = average.start(wide, variables["stats"])
    variables = {**variables, "params": params}
    return create(variables, optimizer_state, averaged, self.memory())


def _in_its_precision[**P, T](
  function: Callable[Concatenate[Recipe, P], T],
) -> Callable[Concatenate[Recipe, P], T]:
  """The function of a recipe, its products as the recipe says."""

  @functools.wraps(function)
  def wrapped(recipe: Recipe, *args: P.args, **kwargs: P.kwargs) -> T:
    with precision.applied(recipe.matmul_precision):
      return function(recipe, *args, **kwargs)

  return wrapped


@_in_its_precision
def forward(
  recipe: Recipe,
  variables: dict[str, PyTree],
  inputs: Array,
  *,
  train: bool | modes.Mode,
  key: Array | None = None,
  features: tuple[str, ...] = (),
) -> tuple[nn_output.Output, PyTree, dict[str, Array]]:
  """Applies the model: (output, new statistics, activation probes).

  Activations that a pattern of `features` chooses are the output's, too.
  """
  params = param_dtype.widen(variables["params"])
  variables = {**variables, "params": params}
  model = nn_variables.merge(recipe.graphdef, variables, key)
  measured, kept = {}, {}
  with outside.naming_model(recipe.model_name, inputs):
    if features:
      returned, intermediates = captured.activations(
        model, inputs, key, train=train
      )
      kept = probes.chosen("activation", intermediates, features)
    elif train and captured.asked(recipe, variables, inputs, key):
      returned, intermediates = captured.activations(
        model, inputs, key, train=train
      )
      measured = probes.statistics("activation", intermediates, recipe.probes)
    else:
      returned = calling.call(model, inputs, train=train, key=key)
    stats = nn_variables.new_stats(recipe.graphdef, model, variables["stats"])
    output = nn_output.as_output(returned)
    _check_count(output.logits, recipe.num_outputs)
    if kept:
      output = output._replace(features={**output.features, **kept})
  return output, stats, measured


def _check_count(logits: Array, num_outputs: int | None) -> None:
  if num_outputs is not None and logits.shape[-1:] < (num_outputs,):
    raise errors.UserError(
      f"it returns logits of shape {logits.shape}; the last axis must hold the"
      f" data's {num_outputs} classes."
    )


def means_in_training(
  recipe: Recipe,
  state: State,
  batch: Batch,
  hyper: Hyper,
  *,
  train: bool | modes.Mode = True,
) -> Callable[..., Any]:
  """What a micro-batch adds to the means of a step's batch.

  Of each l of the objective, sum w_i l_i / sum_batch w_i. Every call draws the
  same noise at one step and index. (variables, (index, micro-batch)) -> (means,
  new statistics, probes).

  Args:
    recipe: static choices.
    state: whose step it is.
    batch: the whole.
    hyper: as in `train_step`.
    train: of the model's call.
  """
  total = jnp.maximum(jnp.sum(batch["weight"]), 1.0)
  key = rng.fold(hyper["seed"], "dropout", state.step)
  objective = recipe.make_objective(hyper)

  def means(variables, indexed):
    index, micro = indexed
    with given.of_batch(micro):
      output, stats, measured = forward(
        recipe,
        variables,
        micro["inputs"],
        train=train,
        key=jax.random.fold_in(key, index),
      )
    sums = mixup.sums(objective, output, micro)
    return {k: value / total for k, value in sums.items()}, stats, measured

  return means


def backpropagate(
  recipe: Recipe, state: State, batch: Batch, hyper: Hyper
) -> Estimate:
  """Gradient of the batch's mean objective.

  Every micro-batch starts from the same statistics, which so advance once
  per step. Those that are linear in the batch become the whole batch's. The
  gradient is the sum over micro-batches of those of `means_in_training`, hence
  the whole batch's.
  """
  trained = param_dtype.widen(frozen.select(state.params, recipe.trained))
  means_of = means_in_training(recipe, state, batch, hyper)
  how = block_gradients.taken(recipe, state, hyper, trained)

  def minimized(trained, grad_stats, indexed):
    params = frozen.put_back(state.params, trained)
    means, stats, measured = means_of(
      {"params": params, "stats": state.stats, "grad_stats": grad_stats},
      indexed,
    )
    return means.pop(objectives.MINIMIZED), (stats, means, measured)

  def one(indexed):
    # The gradient of a backward statistic is its new value, by convention.
    (gradients, grad_stats), (stats, means, measured) = how.grad(
      minimized, trained, state.grad_stats, indexed
    )
    return (gradients, means), (stats, grad_stats), measured

  (gradients, means), statistics, measured = passes.over_batch(
    one, batch, recipe.accumulation_steps
  )
  return Estimate(how.whole(gradients), *statistics, means | measured)


@_in_its_precision
def train_step(
  recipe: Recipe, state: State, batch: Batch, hyper: Hyper
) -> tuple[State, dict[str, Array]]:
  """One update.

  Args:
    recipe: static choices.
    state: after t updates.
    batch: "inputs", "targets", "weight", and "domain" where there are some;
      the t-th batch.
    hyper: the run's scalars, by dotted path.

  Returns:
    The state after t + 1 updates, and metrics of the state given.
  """
  if mixing := mixup.of_scalars(recipe.mixup_mode, hyper):
    key = rng.fold(hyper["seed"], "mixup", state.step)
    batch = mixup.mix(batch, mixing, key)
  estimate = recipe.gradient.estimate or backpropagate
  if recipe.procedure is not None:
    estimate = by_procedure.estimate
  found = estimate(recipe, state, batch, hyper)
  schedule_scalars = {
    path.split(".")[1]: value
    for path, value in hyper.items()
    if path.startswith("schedule.") or path == "train.num_steps"
  }
  fraction = recipe.schedule(state.step, schedule_scalars)
  optimizer = recipe.make_optimizer(hyper, fraction)
  if leaf_by_leaf.has_deferred(found.gradients):
    optimizer = leaf_by_leaf.settled(optimizer)
  trained = frozen.select(state.params, recipe.trained)

  def take(gradients: PyTree) -> tuple[in_place.Step, Array, dict[str, Array]]:
    measured = measure.of_gradient(gradients, recipe.probes)
    norm = optax.tree.norm(gradients)
    clip_norm = norm if found.norm is None else found.norm
    clip = hyper["train.gradient_clip"]
    # clip = 0 turns clipping off; the guard keeps a zero gradient zero.
    factor = jnp.where(
      (clip > 0) & (clip_norm > clip),
      clip / jnp.maximum(clip_norm, jnp.finfo(jnp.float32).tiny),
      1.0,
    )
    step = in_place.in_training(
      optimizer,
      gradients,
      state.optimizer_state,
      trained,
      factor,
      keep_updates=bool(recipe.probes) or recipe.gradient.choose is not None,
    )
    return step, norm, measured

  step, gradient_norm, measured = leaf_by_leaf.call(take, found.gradients)
  stats, metrics = found.stats, found.metrics
  if recipe.gradient.choose is not None:
    chosen = recipe.gradient.choose(recipe, state, batch, hyper, step)
    step = in_place.multiplied(step, trained, chosen)
  moved = step.params
  measured |= measure.of_update(
    step.updates, trained, recipe.probes, recipe.roles
  )
  loss = metrics[objectives.LOSS]
  averaged = state.average
  if averaged is not None:
    decay = average.decay_at(state.step, hyper, warmup=recipe.ema_warmup)
    averaged = average.update(averaged, param_dtype.widen(moved), stats, decay)
  bad = ~(jnp.isfinite(loss) & (loss <= hyper["train.max_loss"]))
  new_state = State(
    step=state.step + 1,
    params=frozen.put_back(state.params, moved),
    stats=stats,
    grad_stats=found.grad_stats,
    optimizer_state=step.state,
    diverged_at=jnp.where(
      (state.diverged_at < 0) & bad, state.step, state.diverged_at
    ),
    average=averaged,
    memory=state.memory if recipe.procedure is None else found.memory,
  )
  if recipe.layer_restarts is not None:
    key = rng.fold(hyper["seed"], "restart", state.step)
    new_state = restarts.after_step(
      recipe.graphdef,
      new_state,
      recipe.layer_restarts,
      key,
      lambda params: optimizer.init(frozen.select(params, recipe.trained)),
    )
  metrics.pop(objectives.WEIGHT)
  _check_names(metrics, (*MEASURED, "diverged_at"))
  return new_state, {
    **metrics,
    "grad_norm": gradient_norm,
    "update_norm": step.update_norm,
    "learning_rate": hyper["optimizer.learning_rate"] * fraction,
    "diverged_at": new_state.diverged_at,
    **measured,
  }


def evaluation_variables(recipe: Recipe, state: State) -> dict[str, PyTree]:
  """What a model is evaluated with: the average, or what the optimizer has.

  Raises:
    UserError: both.
  """
  trained = frozen.select(state.params, recipe.trained)
  chosen = optim.evaluation_params(state.optimizer_state, trained)
  stats = state.stats
  if recipe.weights == "ema":
    if chosen is not trained:
      raise errors.UserError(
        "evaluate.weights='ema': the optimizer evaluates at parameters of its"
        " own; allowed: 'trained'."
      )
    chosen, stats = state.average["params"], state.average["stats"]
  params = param_dtype.widen(frozen.put_back(state.params, chosen))
  return state.variables() | {"params": params, "stats": stats}


@_in_its_precision
def evaluation_step(
  recipe: Recipe, state: State, batch: Batch, hyper: Hyper
) -> objectives.Sums:
  """Weighted sums of the objective's means and of the metrics over one batch.

  Args:
    recipe: static choices.
    state: evaluated with `evaluation_variables`.
    batch: as in `train_step`.
    hyper: as in `train_step`.
  """
  variables = evaluation_variables(recipe, state)
  return evaluation_sums(recipe, variables, batch, hyper)


def evaluation_sums(
  recipe: Recipe, variables: dict[str, PyTree], batch: Batch, hyper: Hyper
) -> objectives.Sums:
  """The same of a model's variables: the optimizer has no part in it."""
  read = tuple(m.activations for m in recipe.metrics if m.activations)
  with given.of_batch(batch):
    output, _, _ = forward(
      recipe, variables, batch["inputs"], train=False, features=read
    )
  sums = recipe.make_objective(hyper).sums(output, batch)
  del sums[objectives.MINIMIZED]
  _check_names(sums, ())
  means = [name for name in sums if name != objectives.WEIGHT]
  for metric in recipe.metrics:
    _check_names([metric.name], sums)
    if isinstance(metric.of, str) and metric.of not in means:
      raise errors.UserError(
        f"evaluate.metrics: {metric.name!r} is made of the mean {metric.of!r};"
        f" there are: {', '.join(means)}."
      )
    sums |= metric.sums(output, batch)
  return sums


def _check_names(added: Iterable[str], taken: Iterable[str]) -> None:
  """Raises UserError where two columns would have one name."""
  taken = (*taken, *ROW_KEYS)
  for name in added:
    if name in taken:
      raise errors.UserError(
        f"two columns would be called {name!r}: a mean of the objective, an"
        f" auxiliary loss or a metric may not; taken: {', '.join(taken)}."
      )
