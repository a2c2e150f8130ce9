"""A run over a stream of tasks: what a learner knows after each of them."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from normjax import errors, rng, validate
from normjax.continual import base, reservoir, scores, step, table, tasks
from normjax.data import streams
from normjax.metrics import task_accuracy
from normjax.metrics.hits import hits
from normjax.nn import variables as nn_variables
from normjax.nn.norm_layer import NormLayer

_EVALUATED_AT_ONCE = 500


class Result(NamedTuple):
  """What a run leaves.

  Attributes:
    accuracies: after every task, of every task.
    losses: (steps,), what was minimized; not finite where the run diverged.
    model: after the last task.
  """

  accuracies: scores.Accuracies
  losses: np.ndarray
  model: nnx.Module

  @property
  def diverged(self) -> bool:
    """Whether a loss was not finite."""
    return not bool(np.isfinite(self.losses).all())


def run(
  model: nnx.Module,
  stream: tasks.TaskStream,
  learner: str | base.Learner = "er",
  *,
  forward: step.Forward = "separate",
  buffer_size: int = 500,
  batch_size: int = 10,
  replay_size: int = 10,
  epochs: int = 1,
  learning_rate: float = 0.03,
  penalty: float = 0.0,
  penalty_from: int = 0,
  optimizer: Callable[[Any], optax.GradientTransformation] = optax.sgd,
  augment: step.Augment | None = None,
  seed: int = 0,
) -> Result:
  """Learns task after task, and measures all tasks after each.

  The defaults are the online protocol of the AdaB2N repository: one epoch,
  batches of 10 and 10 from the buffer, plain SGD. A learner's replay is a
  `replay_size` from each draw, or what the buffer has while that is less.

  Args:
    model: where learning starts; it stays as it is.
    stream: see `tasks.split`.
    learner: of `continual.names()`, as "derpp(alpha=0.2)"; or a `Learner`.
    forward: how replayed examples pass the model: "separate" from the new ones
      or "joint", in one batch; see `step.Program`. A norm's gain by another
      `forward` is not the norm's.
    buffer_size: examples that are kept.
    batch_size: new examples per step; the last batch of an epoch may be
      smaller.
    replay_size: see above.
    epochs: over each task.
    learning_rate: of the optimizer.
    penalty: weighs the penalty of `adab2n`, summed over layers, in steps with a
      replay; lambda in its paper.
    penalty_from: the first task with it; `ada_t0` in its code.
    optimizer: a learning rate -> a transform of optax.
    augment: (key, inputs) -> inputs, traced; see `step.Program`.
    seed: of the order of examples and of all draws.

  Raises:
    UserError: an option out of range; a model that does not fit the stream or
      what is asked of it. Before anything is computed.
  """
  learner = table.resolve(learner)
  _check_options(locals())
  structure, variables = nn_variables.split(model)
  _check_model(model, variables, stream, penalty)
  program = step.Program(
    structure, learner, forward, stream.classes_per_task, optimizer, augment
  )
  hyper = step.Hyper(learning_rate, penalty, penalty_from, dict(learner.hyper))
  state = _start(program, variables, stream, learning_rate, buffer_size)
  plan = list(_plan(stream, learner, batch_size, replay_size, buffer_size,
                    epochs, seed))  # fmt: skip
  _check_steps(program, hyper, state, stream, plan)
  losses, rows = [], []
  for task, index, replayed in plan:
    if task == len(rows) + 1:
      rows.append(_measure(structure, state, stream))
    inputs, labels = stream.train
    new = step.Batch(jnp.asarray(inputs[index]), _labels(labels[index]))
    state, loss = step.compiled(
      program, replayed, hyper, state, new, np.int32(task), np.int32(seed)
    )
    losses.append(loss)
  rows.append(_measure(structure, state, stream))
  held = {"params": state.params, "stats": state.stats, "grad_stats": {}}
  return Result(
    scores.Accuracies(*(np.stack(kind) for kind in zip(*rows, strict=True))),
    np.asarray(jax.device_get(losses)),
    nn_variables.merge(structure, held),
  )


def _labels(labels: np.ndarray) -> jax.Array:
  return jnp.asarray(labels, jnp.int32)


def _plan(
  stream: tasks.TaskStream,
  learner: base.Learner,
  batch_size: int,
  replay_size: int,
  buffer_size: int,
  epochs: int,
  seed: int,
) -> Iterator[tuple[int, np.ndarray, int]]:
  """Of each step: the task, its new examples, the size of each draw."""
  num_seen = 0
  for task, members in enumerate(stream.of_task):
    for epoch in range(epochs):
      own = rng.host_seed(seed, f"task/{task}/epoch/{epoch}")
      order = np.random.default_rng(own).permutation(members)
      for index in streams.batches(order, batch_size):
        held = min(num_seen, buffer_size)
        replays = learner.num_replays and task >= learner.replays_from
        yield task, index, min(replay_size, held) if replays else 0
        num_seen += len(index)


def _start(
  program: step.Program,
  variables: dict[str, Any],
  stream: tasks.TaskStream,
  learning_rate: float,
  buffer_size: int,
) -> step.State:
  # A copy: the steps give their arguments away.
  params, stats = jax.tree.map(
    jnp.array, (variables["params"], variables["stats"])
  )
  inputs, _ = stream.train
  example = {
    "inputs": jax.ShapeDtypeStruct(inputs.shape[1:], inputs.dtype),
    "labels": jax.ShapeDtypeStruct((), jnp.int32),
  }
  if program.learner.keeps_logits:
    shape = (stream.num_classes,)
    example["kept"] = jax.ShapeDtypeStruct(shape, jnp.float32)
  return step.State(
    params,
    stats,
    program.optimizer(learning_rate).init(params),
    reservoir.empty(buffer_size if program.learner.num_replays else 1, example),
    jnp.asarray(-1, jnp.int32),
    jnp.zeros((), jnp.int32),
  )


def _measure(
  structure: nn_variables.Structure, state: step.State, stream: tasks.TaskStream
) -> tuple[np.ndarray, np.ndarray]:
  """Class- and task-incremental accuracy on each task, (t,)."""
  inputs, labels = stream.test
  size = min(_EVALUATED_AT_ONCE, len(labels))
  found = []
  for start in range(0, len(labels), size):
    chosen = np.arange(start, start + size) % len(labels)  # One shape.
    logits = step.evaluate(
      structure, state.params, state.stats, jnp.asarray(inputs[chosen])
    )
    found.append(logits[: len(labels) - start])
  logits = jnp.concatenate(found)
  targets = _labels(labels)
  per_task = stream.classes_per_task
  found = (
    hits(logits, targets),
    task_accuracy.hits(logits, targets, per_task),
  )
  of_task = [labels // per_task == task for task in range(stream.num_tasks)]
  class_hits, task_hits = (
    np.array([np.mean(np.asarray(hit)[own]) for own in of_task])
    for hit in found
  )
  return class_hits, task_hits


def _check_options(given: dict[str, Any]) -> None:
  owner = "continual.run"
  for name in ("buffer_size", "batch_size", "replay_size", "epochs"):
    validate.count(owner, name, given[name], least=1)
  for name in ("penalty_from", "seed"):
    validate.count(owner, name, given[name], least=0)
  validate.number(owner, "penalty", given["penalty"], least=0)
  validate.number(owner, "learning_rate", given["learning_rate"], least=0)
  validate.choice(owner, "forward", given["forward"], step.FORWARDS)


def _check_model(
  model: nnx.Module,
  variables: dict[str, Any],
  stream: tasks.TaskStream,
  penalty: float,
) -> None:
  if jax.tree.leaves(variables["grad_stats"]):
    raise errors.UserError(
      "continual.run: the model's norms have statistics of the backward pass"
      " (power_norm, unified_norm), which one batch per step moves; allowed:"
      " norms without."
    )
  if penalty and not step.penalties(variables["stats"]):
    raise errors.UserError(
      f"continual.run: penalty={penalty} is that of the norm 'adab2n', and the"
      " model has none; allowed: 0, or a model with it."
    )
  for _, module in nnx.iter_modules(model):
    if isinstance(module, NormLayer) and module.norm.name == "adab2n":
      held = module.norm.options["num_tasks"]
      if held < stream.num_tasks:
        raise errors.UserError(
          f"continual.run: the norm 'adab2n' has num_tasks={held}, and the"
          f" stream {stream.num_tasks} tasks; make the model with"
          f" num_tasks={stream.num_tasks}."
        )


def _check_steps(
  program: step.Program,
  hyper: step.Hyper,
  state: step.State,
  stream: tasks.TaskStream,
  plan: list[tuple[int, np.ndarray, int]],
) -> None:
  """Each kind of step in shapes: what is wrong with one shows here."""
  inputs, _ = stream.train

  def images(count: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((count, *inputs.shape[1:]), inputs.dtype)

  logits = jax.eval_shape(
    lambda *held: step.evaluate(program.structure, *held),
    state.params,
    state.stats,
    images(2),
  )
  if logits.shape != (2, stream.num_classes):
    raise errors.UserError(
      f"continual.run: the stream has {stream.num_classes} classes, and the"
      f" model gives logits of shape {logits.shape} for two examples; needed:"
      f" (2, {stream.num_classes})."
    )
  scalar = jax.ShapeDtypeStruct((), jnp.int32)
  for size, replayed in sorted({(len(index), n) for _, index, n in plan}):

    def one(state, inputs, labels, task, seed, n=replayed):
      new = step.Batch(inputs, labels)
      return step.step(program, n, hyper, state, new, task, seed)

    labels = jax.ShapeDtypeStruct((size,), jnp.int32)
    try:
      jax.eval_shape(one, state, images(size), labels, scalar, scalar)
    except errors.UserError as error:
      raise errors.UserError(
        f"continual.run: a step with {size} new examples and {replayed} of each"
        f" draw: {error}"
      ) from error
