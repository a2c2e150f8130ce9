"""A stream of tasks: examples whose classes come some at a time.

Labels are counted in the order in which their classes come, so that class c is
of task c // classes_per_task.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from normjax import errors
from normjax.data import streams

Arrays = tuple[np.ndarray, np.ndarray]


class TaskStream(NamedTuple):
  """Examples of all tasks.

  Attributes:
    train: (inputs (n, …), labels (n,)).
    test: likewise.
    classes: of each label, what the class was called before, (c,).
    of_task: of each task, its training examples.
  """

  train: Arrays
  test: Arrays
  classes: np.ndarray
  of_task: tuple[np.ndarray, ...]

  @property
  def num_tasks(self) -> int:
    """How many there are."""
    return len(self.of_task)

  @property
  def num_classes(self) -> int:
    """Of all tasks."""
    return len(self.classes)

  @property
  def classes_per_task(self) -> int:
    """The same number in each."""
    return self.num_classes // self.num_tasks


def split(
  train: Arrays, test: Arrays, num_tasks: int, seed: int | None = 0
) -> TaskStream:
  """Tasks of as many classes each: class-incremental learning.

  Args:
    train: (inputs, labels).
    test: the same; its labels are among those of `train`.
    num_tasks: divides the number of classes.
    seed: of the order of classes and of examples; None keeps both.

  Raises:
    UserError: labels that do not split; a test label that no task teaches, or a
      class without a test example; inputs and labels of different numbers.
  """
  for name, (inputs, labels) in (("train", train), ("test", test)):
    if len(inputs) != len(labels):
      raise errors.UserError(
        f"split: {name} has {len(inputs)} inputs and {len(labels)} labels."
      )
  tasks = streams.split_classes(train[1], num_tasks, seed)
  classes = np.concatenate([task.classes for task in tasks])
  known, tested = set(classes.tolist()), set(np.unique(test[1]).tolist())
  if known != tested:
    raise errors.UserError(
      "split: each class must be in train and in test;"
      f" {_said(known - tested)} only in train, {_said(tested - known)} only in"
      " test."
    )
  order = np.argsort(classes)

  def counted(labels: np.ndarray) -> np.ndarray:
    return order[np.searchsorted(classes, labels, sorter=order)]

  return TaskStream(
    (np.asarray(train[0]), counted(np.asarray(train[1]))),
    (np.asarray(test[0]), counted(np.asarray(test[1]))),
    classes,
    tuple(task.index for task in tasks),
  )


def of_dataset(
  dataset: Any, num_tasks: int, seed: int | None = 0
) -> TaskStream:
  """`split` of a data set of `normjax.data`, evaluated on its validation part.

  Args:
    dataset: of labelled examples in memory.
    num_tasks: see `split`.
    seed: see `split`.

  Raises:
    UserError: a data set without arrays of classes, or see `split`.
  """
  if dataset.targets != "classes" or not hasattr(dataset, "deviation"):
    raise errors.UserError(
      f"data {dataset.name!r}: tasks are split from examples in memory with"
      " classes as targets."
    )

  def scaled(part: Any) -> Arrays:
    inputs = np.asarray(part[0][np.arange(len(part[1]))], np.float32)
    inputs = (inputs - dataset.mean) / dataset.deviation
    return inputs.astype(np.float32), np.asarray(part[1])

  return split(
    scaled(dataset.train), scaled(dataset.validation), num_tasks, seed
  )


def _said(classes: Sequence[Any] | set) -> str:
  return errors.few([str(c) for c in sorted(classes)]) if classes else "none"
