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
  measure,
  mixup,
  param_dtype,
  precision,
  restarts,
)
from normjax.train.sharding import device_parts
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
  # What takes the gradients in place of `_gradients`, and its first memory.
  procedure: Procedure | None = None
  memory: Callable[[], PyTree] = lambda: None
  block_gradients: bool = False  # See `block_gradients`.
  restart_every: int = 0  # See `restarts`.
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
  train: bool,
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
      returned, intermediates = captured.activations(model, inputs, key)
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


def _micro_batches(batch: Batch, count: int) -> Batch:
  """(b, …) -> (count, b / count, …), each a stride of the batch.

  Strides keep a batch that is sharded over devices sharded the same way.
  """
  return jax.tree.map(
    lambda x: x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1), batch
  )


def _gradients(
  recipe: Recipe, state: State, batch: Batch, hyper: Hyper
) -> tuple[PyTree, PyTree, PyTree, dict[str, Array]]:
  """Gradient of the batch's mean objective, in micro-batches by scan.

  Every micro-batch starts from the same statistics, which so advance once
  per step. Those that are linear in the batch become the whole batch's.

  Returns:
    The gradient of what is trained (the sum over micro-batches of the
    gradients of `sum w_i l_i / sum_batch w_i`, hence the whole batch's), the
    new `stats` and `grad_stats` (the mean over micro-batches, of counters and
    flags the largest), and the metrics.
  """
  total = jnp.maximum(jnp.sum(batch["weight"]), 1.0)
  trained = param_dtype.widen(frozen.select(state.params, recipe.trained))
  key = rng.fold(hyper["seed"], "dropout", state.step)
  objective = recipe.make_objective(hyper)

  def minimized(trained, grad_stats, stats, micro, index):
    params = frozen.put_back(state.params, trained)
    with given.of_batch(micro):
      output, stats, measured = forward(
        recipe,
        {"params": params, "stats": stats, "grad_stats": grad_stats},
        micro["inputs"],
        train=True,
        key=jax.random.fold_in(key, index),
      )
    sums = mixup.sums(objective, output, micro)
    means = {name: value / total for name, value in sums.items()}
    return means.pop(objectives.MINIMIZED), (stats, means, measured)

  how = block_gradients.taken(recipe, state, hyper, trained)

  @device_parts.each
  def one(indexed):
    index, micro = indexed
    # The gradient of a backward statistic is its new value, by convention.
    (gradients, grad_stats), (stats, means, measured) = how.grad(
      minimized, trained, state.grad_stats, state.stats, micro, index
    )
    return (gradients, means), (stats, grad_stats), measured

  count = recipe.accumulation_steps
  if count == 1:
    (gradients, means), statistics, measured = one(
      (jnp.zeros((), jnp.int32), batch)
    )
    return how.whole(gradients), *statistics, means | measured

  def body(summed, indexed):
    summable, *each = one(indexed)
    return jax.tree.map(jnp.add, summed, summable), each

  indexed = (jnp.arange(count), _micro_batches(batch, count))
  first = jax.tree.map(lambda x: x[0], indexed)
  zeros = jax.tree.map(
    lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(one, first)[0]
  )
  (gradients, means), (statistics, measured) = jax.lax.scan(
    body, zeros, indexed
  )
  statistics = jax.tree.map(_over_micro_batches, statistics)
  measured = {
    name: jnp.max(value) if name.endswith("/max") else jnp.mean(value)
    for name, value in measured.items()
  }
  return how.whole(gradients), *statistics, means | measured


def _over_micro_batches(values: Array) -> Array:
  """A statistic's new value from those of the micro-batches, stacked."""
  if jnp.issubdtype(values.dtype, jnp.inexact):
    # What no call moves stays bit for bit: a third of it three times may not.
    same = jnp.all(values == values[0], axis=0)
    return jnp.where(same, values[0], jnp.mean(values, axis=0))
  return jnp.max(values, axis=0)


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
  memory = state.memory
  if recipe.procedure is None:
    gradients, stats, grad_stats, metrics = _gradients(
      recipe, state, batch, hyper
    )
  else:
    learned, metrics = by_procedure.learn(recipe, state, batch, hyper)
    gradients, stats, memory = learned.gradients, learned.stats, learned.memory
    grad_stats = state.grad_stats
  measured = measure.of_gradient(gradients, recipe.probes)
  gradient_norm = optax.tree.norm(gradients)
  clip = hyper["train.gradient_clip"]
  # clip = 0 turns clipping off; the guard keeps a zero gradient zero.
  factor = jnp.where(
    (clip > 0) & (gradient_norm > clip),
    clip / jnp.maximum(gradient_norm, jnp.finfo(jnp.float32).tiny),
    1.0,
  )

  schedule_scalars = {
    path.split(".")[1]: value
    for path, value in hyper.items()
    if path.startswith("schedule.") or path == "train.num_steps"
  }
  fraction = recipe.schedule(state.step, schedule_scalars)
  optimizer = recipe.make_optimizer(hyper, fraction)
  trained = frozen.select(state.params, recipe.trained)
  step = in_place.in_training(
    optimizer,
    gradients,
    state.optimizer_state,
    trained,
    factor,
    keep_updates=bool(recipe.probes),
  )
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
    grad_stats=grad_stats,
    optimizer_state=step.state,
    diverged_at=jnp.where(
      (state.diverged_at < 0) & bad, state.step, state.diverged_at
    ),
    average=averaged,
    memory=memory,
  )
  if recipe.restart_every:
    key = rng.fold(hyper["seed"], "restart", state.step)
    new_state = restarts.after_step(
      recipe.graphdef, new_state, recipe.restart_every, key
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
