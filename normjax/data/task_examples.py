"""Examples in memory whose classes come task after task, as a data set."""

import dataclasses
from typing import Any

import numpy as np

from normjax import errors, rng
from normjax.data import dataset, examples, streams
from normjax.record import due


@dataclasses.dataclass(frozen=True)
class TaskExamples(examples.Examples):
  """Examples that are trained on task by task, and evaluated on all tasks.

  Labels are counted in the order in which their classes come: class c is of
  task c // classes_per_task.

  Attributes:
    of_task: of each task, its training examples.
    classes: of each task, what its labels were before; another order at
      another seed, hence no part of the provenance, which runs share.
    num_steps: of a run; its tasks have equal parts of them.
  """

  of_task: tuple[np.ndarray, ...] = ()
  classes: tuple[tuple[int, ...], ...] = ()
  num_steps: int = 1

  @property
  def num_tasks(self) -> int:
    """How many there are."""
    return len(self.of_task)

  @property
  def classes_per_task(self) -> int:
    """The same number in each."""
    return self.num_classes // self.num_tasks

  def drawn(self, seed: int, step: int, batch_size: int) -> np.ndarray:
    """Examples of the task that step `step` is of, in its own epochs."""
    task = min(step * self.num_tasks // self.num_steps, self.num_tasks - 1)
    members = self.of_task[task]
    first = (0, *due.task_ends(self.num_tasks, self.num_steps))[task]
    own_seed = rng.host_seed(seed, f"task/{task}")
    place = dataset.indices(own_seed, step - first, batch_size, len(members))
    return members[place[:, 1]]


def of(made: Any, num_tasks: int, seed: int, num_steps: int) -> TaskExamples:
  """A data set in tasks.

  Args:
    made: of labelled examples in memory.
    num_tasks: divides the number of its classes.
    seed: of the order of the classes.
    num_steps: of a run.

  Raises:
    UserError: another kind of data set; classes that do not split, or are not
      all there in training.
  """
  if not isinstance(made, examples.Examples) or made.targets != "classes":
    raise errors.UserError(
      f"data {made.name!r}: tasks are split from examples in memory with"
      " classes as targets, as digits, image sets and arrays are."
    )
  tasks = streams.split_classes(made.train[1], num_tasks, seed)
  order = np.concatenate([task.classes for task in tasks])
  if len(order) != made.num_classes:
    missing = sorted({*range(made.num_classes)} - {*order.tolist()})
    raise errors.UserError(
      f"data {made.name!r}: tasks need training examples of each of its"
      f" {made.num_classes} classes; there are none of"
      f" {errors.few(list(map(str, missing)))}."
    )
  counted = np.argsort(order)
  parts = {
    name: (part[0], counted[np.asarray(part[1])])
    for name in ("train", "tuning", "validation", "test")
    if (part := getattr(made, name)) is not None
  }
  fields = {
    field.name: getattr(made, field.name)
    for field in dataclasses.fields(examples.Examples)
  }
  return TaskExamples(
    **{
      **fields,
      **parts,
      "folds": (),
      "of_task": tuple(task.index for task in tasks),
      "classes": tuple(tuple(task.classes.tolist()) for task in tasks),
      "num_steps": num_steps,
    }
  )
