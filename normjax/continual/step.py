"""A step of continual learning: pure, compiled once per shape.

Replayed examples pass the model with the new ones, in one batch, or apart, in
batches of their own. With batch statistics that is another model: the
comparison of a norm has both.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from normjax import rng
from normjax.continual import base, reservoir
from normjax.nn import calling, given
from normjax.nn import variables as nn_variables
from normjax.nn.output import as_output
from normjax.norms.adab2n import Tasks
from normjax.types import Array, PyTree

Forward = Literal["separate", "joint"]
FORWARDS: tuple[Forward, ...] = ("separate", "joint")
# The statistic that is added to what is minimized: see `norms.adab2n`.
PENALTY = "penalty"
Augment = Callable[[Array, Array], Array]


class Program(NamedTuple):
  """What a step is compiled for.

  Attributes:
    structure: of the model.
    learner: its loss.
    forward: "separate": new examples and each draw pass the model one after
      the other, and its running statistics move each time; "joint": once, side
      by side.
    classes_per_task: class c is of task c // classes_per_task.
    optimizer: a learning rate -> a transform of optax.
    augment: (key, inputs) -> inputs, of new and of replayed ones; the buffer
      holds inputs without it.
  """

  structure: nn_variables.Structure
  learner: base.Learner
  forward: Forward
  classes_per_task: int
  optimizer: Callable[[Any], optax.GradientTransformation] = optax.sgd
  augment: Augment | None = None


class Hyper(NamedTuple):
  """The numbers of a step, which are traced."""

  learning_rate: Array | float
  penalty: Array | float  # Weighs the norms' penalty, summed over layers,
  penalty_from: Array | int  # from this task on, where there is a replay.
  of_loss: Mapping[str, Array | float]


class State(NamedTuple):
  """What a step changes."""

  params: PyTree
  stats: PyTree
  optimizer: PyTree
  buffer: reservoir.Buffer
  last_class: (
    Array  # The largest label of the new examples so far; -1 at first.
  )
  step: Array


class Batch(NamedTuple):
  """Examples, and the logits that they were stored with, if they were."""

  inputs: Array
  labels: Array
  kept: Array | None = None


def step(
  program: Program,
  replay_size: int,
  hyper: Hyper,
  state: State,
  new: Batch,
  task: Array,
  seed: Array,
) -> tuple[State, Array]:
  """One step: draw from the buffer, learn, store the new examples.

  Args:
    program: static.
    replay_size: static; examples per draw, 0 for no replay.
    hyper: see `Hyper`.
    state: see `State`.
    new: the examples of the current task.
    task: the current one, from 0.
    seed: of all that is drawn; a pure function of it and of the step.

  Returns:
    The new state, and what was minimized.
  """
  key = rng.fold(seed, "continual", state.step)
  store_key, noise_key, *draws = jax.random.split(
    key, 2 + program.learner.num_replays
  )
  replays = tuple(
    Batch(**reservoir.draw(state.buffer, k, replay_size))
    for k in draws
    if replay_size
  )
  augmented, *replays = (
    _augmented(program, batch, jax.random.fold_in(noise_key, n))
    for n, batch in enumerate((new, *replays))
  )
  state, logits, loss = update(
    program, hyper, state, augmented, tuple(replays), task, noise_key
  )
  rows = {"inputs": new.inputs, "labels": new.labels}
  if program.learner.keeps_logits:
    rows["kept"] = logits
  buffer = state.buffer
  if program.learner.num_replays:
    buffer = reservoir.add(buffer, store_key, rows)
  return state._replace(buffer=buffer, step=state.step + 1), loss


def update(
  program: Program,
  hyper: Hyper,
  state: State,
  new: Batch,
  replays: tuple[Batch, ...],
  task: Array,
  key: Array,
) -> tuple[State, Array, Array]:
  """Learns from examples that are given; the buffer stays.

  Args:
    program: see `Program`.
    hyper: see `Hyper`.
    state: see `State`.
    new: of the current task.
    replays: as many as the learner asks for, or none.
    task: the current one.
    key: of the model's noise.

  Returns:
    The new state, the logits of `new` before the step, and what was minimized.
  """
  last_class = jnp.maximum(state.last_class, jnp.max(new.labels))
  seen = base.Seen(task, last_class)

  def loss_of(params: PyTree):
    return minimized(
      program, hyper, params, state.stats, (new, *replays), seen, key
    )

  (loss, (stats, logits)), gradients = jax.value_and_grad(
    loss_of, has_aux=True
  )(state.params)
  moved, optimizer = program.optimizer(hyper.learning_rate).update(
    gradients, state.optimizer, state.params
  )
  params = optax.apply_updates(state.params, moved)
  state = state._replace(
    params=params, stats=stats, optimizer=optimizer, last_class=last_class
  )
  return state, logits, loss


def minimized(
  program: Program,
  hyper: Hyper,
  params: PyTree,
  stats: PyTree,
  examples: tuple[Batch, ...],
  seen: base.Seen,
  key: Array,
) -> tuple[Array, tuple[PyTree, Array]]:
  """What a step minimizes.

  Args:
    program: see `Program`.
    hyper: see `Hyper`.
    params: of the model.
    stats: of its norms.
    examples: new ones, and replays: as many as the learner asks for, or none.
    seen: of the stream.
    key: of the model's noise.

  Returns:
    The loss, and with it the new statistics and the logits of the new ones.
  """
  parts, moved, extra = _outputs(
    program, params, stats, examples, seen.task, key
  )
  new, *replays = parts
  loss = program.learner.loss(new, tuple(replays), seen, **hyper.of_loss)
  if replays:
    weight = jnp.where(seen.task >= hyper.penalty_from, hyper.penalty, 0.0)
    loss += weight * extra[PENALTY]
  return loss + extra["auxiliary"], (moved, new.logits)


compiled = jax.jit(step, static_argnums=(0, 1), donate_argnums=3)


@functools.partial(jax.jit, static_argnums=0)
def evaluate(
  structure: nn_variables.Structure,
  params: PyTree,
  stats: PyTree,
  inputs: Array,
) -> Array:
  """The logits of evaluation, (b, c)."""
  held = {"params": params, "stats": stats, "grad_stats": {}}
  model = nn_variables.merge(structure, held)
  return as_output(calling.call(model, inputs, train=False)).logits


def penalties(stats: PyTree) -> list[Array]:
  """The penalty that each layer left in its statistics."""
  return [
    leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(stats)
    if path[-1].key == PENALTY
  ]


def _outputs(
  program: Program,
  params: PyTree,
  stats: PyTree,
  batches: tuple[Batch, ...],
  task: Array,
  key: Array,
) -> tuple[list[base.Part], PyTree, dict[str, Array]]:
  """A part per batch, the statistics after all, and what losses are added."""
  inputs = [batch.inputs for batch in batches]
  labels = [batch.labels for batch in batches]
  if program.forward == "joint":
    groups = [(jnp.concatenate(inputs), jnp.concatenate(labels))]
  else:
    groups = list(zip(inputs, labels, strict=True))
  extra = {PENALTY: jnp.zeros(()), "auxiliary": jnp.zeros(())}
  found = []
  for number, (x, y) in enumerate(groups):
    held = {"params": params, "stats": stats, "grad_stats": {}}
    own_key = jax.random.fold_in(key, number)
    model = nn_variables.merge(program.structure, held, own_key)
    tasks = Tasks(y // program.classes_per_task, task)
    with given.context({"adab2n": tasks}):
      output = as_output(calling.call(model, x, train=True, key=own_key))
    stats = nn_variables.new_stats(program.structure, model, stats)
    extra[PENALTY] += sum(penalties(stats), jnp.zeros(()))
    extra["auxiliary"] += sum(output.auxiliary_losses.values(), jnp.zeros(()))
    found.append(output.logits)
  cuts = [sum(map(len, labels[: n + 1])) for n in range(len(labels) - 1)]
  logits = jnp.split(jnp.concatenate(found), cuts)
  parts = [
    base.Part(z, batch.labels, batch.kept)
    for z, batch in zip(logits, batches, strict=True)
  ]
  return parts, stats, extra


def _augmented(program: Program, batch: Batch, key: Array) -> Batch:
  if program.augment is None:
    return batch
  return batch._replace(inputs=program.augment(key, batch.inputs))
