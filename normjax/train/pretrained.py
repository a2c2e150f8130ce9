"""Start step: what the model learns of one data set before the run's own."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from normjax import data as data_lib
from normjax import errors, objectives, validate
from normjax.nn import calling, given, start
from normjax.nn import output as nn_output
from normjax.nn import variables as nn_variables
from normjax.nn.conv_norm import ConvNorm
from normjax.nn.variables import Structure
from normjax.registry import parse_call

_MOMENTUM = 0.9


def pretrained(
  data: str = "digits",
  quarter_turns: int = 0,
  num_classes: int | None = None,
  num_steps: int = 300,
  batch_size: int = 64,
  learning_rate: float = 0.1,
  seed: int = 0,
) -> start.StartStep:
  """Parameters and statistics after training on a data set of its own.

  By SGD with momentum 0.9 along a cosine to 0, on cross-entropy. Norms of
  convolutions are in mode "train", whatever mode the run has them in. What the
  run draws is what is trained, so that runs of other seeds start elsewhere.

  Args:
    data: a data set of images and classes, as "name" or "name(option=value)",
      of as many channels and classes as the run's.
    quarter_turns: by how many times 90 degrees its images are turned.
    num_classes: how many of its classes are learned, from the first; images of
      others stand in batches with weight 0. None: all.
    num_steps: updates.
    batch_size: images a step.
    learning_rate: at the first step.
    seed: of the order of its images.

  Raises:
    UserError: an option out of range, or data that is no set of images. The
      step itself raises it where the model cannot take them.
  """
  validate.counts("pretrained", num_steps=num_steps, batch_size=batch_size)
  validate.positive("pretrained", learning_rate=learning_rate)
  if num_classes is not None:
    validate.counts("pretrained", num_classes=num_classes)
  name, options = parse_call("data", data)
  dataset = data_lib.make(name, **options)
  if (dataset.reads, dataset.targets) != ("images", "classes"):
    raise errors.UserError(
      f"pretrained: data={data!r} has {dataset.reads} and {dataset.targets};"
      " needed: images and classes."
    )

  optimizer = _optimizer(learning_rate, num_steps)

  def batch(step: int) -> dict[str, Any]:
    found = dataset.train_batch(seed, step, batch_size)
    turned = jnp.rot90(found["inputs"], quarter_turns, axes=(1, 2))
    if num_classes is None:
      return {**found, "inputs": turned}
    learned = found["targets"] < num_classes
    weight = jnp.where(learned, found["weight"], 0.0)
    return {**found, "inputs": turned, "weight": weight}

  def apply(
    model: Structure, variables: start.Variables
  ) -> tuple[Structure, start.Variables]:
    step = _step(_in_training(model, variables), optimizer)
    state = optimizer.init(variables["params"])
    for index in range(num_steps):
      variables, state = step(variables, state, batch(index))
    return model, variables

  def check(model: Structure, shapes: start.Variables) -> None:
    step = _step(_in_training(model, shapes), optimizer)
    state = jax.eval_shape(optimizer.init, shapes["params"])
    try:
      jax.eval_shape(step, shapes, state, batch(0))
    except errors.UserError:
      raise
    except Exception as error:
      raise errors.UserError(
        f"the model cannot be trained on data {data!r}:"
        f" {type(error).__name__}: {error}"
      ) from error

  return start.StartStep(apply, changes_structure=False, check=check)


@functools.lru_cache(maxsize=4)
def _optimizer(rate: float, num_steps: int) -> optax.GradientTransformation:
  return optax.sgd(optax.cosine_decay_schedule(rate, num_steps), _MOMENTUM)


def _in_training(model: Structure, variables: start.Variables) -> Structure:
  """The model with its `ConvNorm`s in mode "train"."""

  def changed(variables):
    module = nn_variables.merge(model, variables)
    for _, site in nnx.iter_modules(module):
      if isinstance(site, ConvNorm):
        site.mode = "train"
    structure, variables = nn_variables.split(module)
    made.append(structure)
    return variables

  made: list[Structure] = []
  jax.eval_shape(changed, variables)
  return made[0]


@functools.lru_cache(maxsize=4)
def _step(structure: Structure, optimizer: optax.GradientTransformation):
  """One update, compiled once: (variables, state, batch) to the new two."""
  objective = objectives.make("cross_entropy")

  @jax.jit
  def step(variables, state, batch):
    def minimized(params):
      model = nn_variables.merge(structure, {**variables, "params": params})
      with given.of_batch(batch):
        output = calling.call(model, batch["inputs"], train=True)
      sums = objective.sums(nn_output.as_output(output), batch)
      stats = nn_variables.new_stats(structure, model, variables["stats"])
      weight = jnp.maximum(sums[objectives.WEIGHT], 1.0)
      return sums[objectives.MINIMIZED] / weight, stats

    params = variables["params"]
    gradient, stats = jax.grad(minimized, has_aux=True)(params)
    updates, state = optimizer.update(gradient, state)
    params = optax.apply_updates(params, updates)
    return {**variables, "params": params, "stats": stats}, state

  return step
