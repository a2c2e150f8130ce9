"""Classes in tasks, and a buffer of old examples: `normjax.continual`."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from normjax import errors, rng
from normjax.continual import base as learners
from normjax.continual import reservoir, scores, step, table
from normjax.data import task_examples
from normjax.metrics import Batch, Metric, hits, task_accuracy
from normjax.nn.output import Output
from normjax.procedures import base, refused
from normjax.record import due
from normjax.types import Array, PyTree


class Continual(base.Procedure):
  """Learns task after task, as `continual.run` does, step by step.

  Each step draws from the buffer once that has `replay_size` examples, learns,
  and stores the new ones. The buffer is in the state of the run, so that a run
  goes on from a checkpoint as any other does.
  """

  learns = True

  @property
  def asked(self) -> str:
    """The leaf that asks for it, for messages."""
    return f"{self.block}.learner={self.option('learner')!r}"

  @functools.cached_property
  def learner(self) -> learners.Learner:
    """Of the table.

    Raises:
      UserError: no such learner, or a bad option.
    """
    try:
      return table.resolve(self.option("learner"))
    except errors.UserError as error:
      raise type(error)(f"{self.asked}: {error}") from error

  # ----- Before anything runs -----

  def view(self, data: Any) -> Any:
    """The data set with labels in the order of tasks; see `task_examples`."""
    num_tasks = self.option("num_tasks")
    num_steps = self.config["train"]["num_steps"]
    if num_steps < num_tasks:
      raise errors.UserError(
        f"{self.block}.num_tasks={num_tasks}: they share train.num_steps="
        f"{num_steps}; needed: a step for each, at least."
      )
    try:
      return task_examples.of(data, num_tasks, self.config["seed"], num_steps)
    except errors.UserError as error:
      raise errors.UserError(
        f"{self.asked}, {self.block}.num_tasks={num_tasks}: {error}"
      ) from error

  def check(self, data: Any) -> None:
    """See the base; the numbers of examples too."""
    _ = self.learner
    refused.check(
      self.asked,
      self.config,
      {"train.accumulation_steps": (1, "a step is one batch and its replays")},
    )
    replay, buffer = self.option("replay_size"), self.option("buffer_size")
    if replay > buffer:
      raise errors.UserError(
        f"{self.block}.replay_size={replay} is more than"
        f" {self.block}.buffer_size={buffer} examples."
      )
    if data.num_domains:
      raise errors.UserError(
        f"{self.asked}: data {data.name!r} says domains, which no buffer keeps;"
        " allowed: data without."
      )

  def check_model(self, structure, variables, data, num_devices) -> None:
    """See the base."""
    del structure, num_devices
    refused.check_norms(self.asked, variables)
    penalty = self.option("penalty")
    if penalty and not step.penalties(variables["stats"]):
      raise errors.UserError(
        f"{self.block}.penalty={penalty}: it is that of the norm 'adab2n', and"
        " the model has none; allowed: 0."
      )
    norm = self.config["norm"]
    num_tasks = norm.get("num_tasks", data.num_tasks)
    if norm["name"] == "adab2n" and num_tasks < data.num_tasks:
      raise errors.UserError(
        f"norm.num_tasks={num_tasks}: norm 'adab2n' knows fewer tasks than"
        f" {self.block}.num_tasks={data.num_tasks}."
      )

  # ----- A step -----

  def memory(self, data: Any) -> PyTree:
    """The largest label so far, and the buffer of a learner that has one."""
    found: dict[str, PyTree] = {"last_class": jnp.asarray(-1, jnp.int32)}
    if not self.learner.num_replays:
      return found
    inputs = data.train_batch(0, 0, 1)["inputs"]
    example = {
      "inputs": jax.ShapeDtypeStruct(inputs.shape[1:], inputs.dtype),
      "labels": jax.ShapeDtypeStruct((), jnp.int32),
    }
    if self.learner.keeps_logits:
      classes = (data.num_classes,)
      example["kept"] = jax.ShapeDtypeStruct(classes, jnp.float32)
    buffer = reservoir.empty(self.option("buffer_size"), example)
    return {**found, "buffer": buffer._asdict()}

  def gradients(self, given: base.Given) -> base.Learned:
    """Draws, learns, stores: the random numbers are `continual.step`'s."""
    learner = self.learner
    new = step.Batch(given.batch["inputs"], given.batch["targets"])
    task = jnp.max(new.labels) // self._per_task(given.num_classes)
    key = rng.fold(given.hyper["seed"], "continual", given.step)
    store_key, noise_key, *draws = jax.random.split(
      key, 2 + learner.num_replays
    )
    last_class = jnp.maximum(given.memory["last_class"], jnp.max(new.labels))
    learn = functools.partial(
      self._learn, given, new, learners.Seen(task, last_class), noise_key
    )
    memory = {"last_class": last_class}
    if not learner.num_replays:
      return base.Learned(*learn(()), memory=memory)
    buffer = reservoir.Buffer(**given.memory["buffer"])
    size = self.option("replay_size")

    def replayed() -> tuple[Any, ...]:
      drawn = (reservoir.draw(buffer, k, size) for k in draws)
      return learn(tuple(step.Batch(**rows) for rows in drawn))

    has_enough = buffer.num_seen >= size
    replays = has_enough & (task >= learner.replays_from)
    learned = jax.lax.cond(replays, replayed, lambda: learn(()))
    rows = {"inputs": new.inputs, "labels": new.labels}
    if learner.keeps_logits:
      rows["kept"] = learned[2]
    stored = reservoir.add(buffer, store_key, rows)
    memory["buffer"] = stored._asdict()
    return base.Learned(*learned, memory=memory)

  def _per_task(self, num_classes: int) -> int:
    return num_classes // self.option("num_tasks")

  def _learn(
    self,
    given: base.Given,
    new: step.Batch,
    seen: learners.Seen,
    key: Array,
    replays: tuple[step.Batch, ...],
  ) -> tuple[PyTree, PyTree, Array, Array]:
    """(gradients, statistics, logits of the new ones, what is minimized)."""
    program = step.Program(
      given.structure,
      self.learner,
      self.option("forward"),
      self._per_task(given.num_classes),
    )
    hyper = step.Hyper(
      learning_rate=0.0,  # The optimizer is the run's.
      penalty=given.hyper.get(f"{self.block}.penalty", 0.0),
      penalty_from=given.hyper.get(f"{self.block}.penalty_from", 0),
      of_loss=self.learner.hyper,
    )

    def minimized(trained: PyTree) -> tuple[Array, tuple[PyTree, Array]]:
      return step.minimized(
        program,
        hyper,
        given.params_of(trained),
        given.stats,
        (new, *replays),
        seen,
        key,
      )

    (loss, (stats, logits)), gradients = jax.value_and_grad(
      minimized, has_aux=True
    )(given.trained)
    return gradients, stats, logits, loss

  # ----- What is measured -----

  def metrics(self, data: Any) -> Sequence[Metric]:
    """The accuracy on each task: among all classes, and among its own."""
    per_task = data.classes_per_task
    return [
      Metric(
        _column(kind, task),
        functools.partial(_of_task, is_hit, task, per_task),
        finish=_share,
        targets="classes",
      )
      for kind, is_hit in _HITS.items()
      for task in range(data.num_tasks)
    ]

  def facts(self, data: Any) -> Mapping[str, Any]:
    """Which classes each task has, by their labels in the data set."""
    return {"tasks": data.classes}

  def stops(self) -> Sequence[int]:
    """The end of each task."""
    num_steps, tasks = self.config["train"]["num_steps"], self._num_tasks
    return due.task_ends(tasks, num_steps)

  @property
  def _num_tasks(self) -> int:
    return self.option("num_tasks")

  def columns(self, data: Any) -> Sequence[str]:
    """The summaries of both kinds."""
    del data
    names = scores.SUMMARIES if self._num_tasks > 1 else ("average",)
    return [f"{kind}/{name}" for kind in _HITS for name in names]

  def measure(self, evaluated: base.Evaluated) -> Mapping[str, float]:
    """After the last step, of what was measured at the end of each task."""
    if not evaluated.is_last:
      return {}
    earlier = [evaluated.earlier.get(end, {}) for end in self.stops()[:-1]]
    rows = [*earlier, evaluated.means]
    matrices = {
      kind: np.array(
        [
          [_number(row.get(_column(kind, t))) for t in range(self._num_tasks)]
          for row in rows
        ]
      )
      for kind in _HITS
    }
    found = scores.Accuracies(**matrices).summary()
    return {name: found[name] for name in self.columns(evaluated.data)}


def _column(kind: str, task: int) -> str:
  return f"{kind}/task_{task + 1}"


def _number(value: float | None) -> float:
  """A number of a row; files have null for what is none."""
  return float("nan") if value is None else value


def _class_hits(logits: Array, labels: Array, per_task: int) -> Array:
  del per_task
  return hits.hits(logits, labels)


_HITS: Mapping[str, Callable[[Array, Array, int], Array]] = {
  "class_incremental": _class_hits,
  "task_incremental": task_accuracy.hits,
}


def _of_task(
  is_hit: Callable[..., Array],
  task: int,
  per_task: int,
  output: Output,
  batch: Batch,
) -> Array:
  """(b, 2): whether it is a hit of the task, and whether it is of the task."""
  labels = batch["targets"]
  own = labels // per_task == task
  hit = is_hit(output.logits, labels, per_task)
  return jnp.stack([own & hit, own], axis=-1)


def _share(mean: np.ndarray, data: Any) -> float:
  """Hits over examples of a task; NaN where an evaluation has none of it."""
  del data
  hits, own = mean
  return float(hits / own) if own else float("nan")
