"""What a learner still knows: accuracies over tasks, and forgetting."""

from typing import Any, NamedTuple

import numpy as np


class Accuracies(NamedTuple):
  """Of every task, after every task, in [0, 1].

  Attributes:
    class_incremental: (t, t); row i, column j: after task i, of the test
      examples of task j, among all classes.
    task_incremental: the same among the classes of task j alone.
  """

  class_incremental: np.ndarray
  task_incremental: np.ndarray

  def summary(self) -> dict[str, float]:
    """The last average accuracy and the forgetting, of both kinds."""
    return {
      f"{kind}/{name}": function(matrix)
      for kind, matrix in self._asdict().items()
      for name, function in SUMMARIES.items()
    }

  def table(self) -> list[dict[str, Any]]:
    """A row per pair of tasks that is measured on what was learned."""
    return [
      {
        "after_task": i,
        "of_task": j,
        "class_incremental": float(self.class_incremental[i, j]),
        "task_incremental": float(self.task_incremental[i, j]),
      }
      for i, j in zip(
        *np.tril_indices(len(self.class_incremental)), strict=True
      )
    ]


def average(matrix: np.ndarray) -> float:
  """The mean over tasks after the last one."""
  return float(np.mean(matrix[-1]))


def forgetting(matrix: np.ndarray) -> float:
  """How far accuracies fell: Chaudhry and others 2018, arXiv:1801.10112.

      mean_{j < t - 1}(max_{j <= i} a_ij - a_{t-1, j})

  The largest is over all rows, the last one included: never below 0. NaN of one
  task, which has nothing to forget.
  """
  if len(matrix) < 2:
    return float("nan")
  known = np.tril(matrix)
  return float(np.mean((known.max(axis=0) - known[-1])[:-1]))


def backward_transfer(matrix: np.ndarray) -> float:
  """mean_{j < t - 1}(a_{t-1, j} - a_jj): arXiv:1706.08840; NaN of one task."""
  if len(matrix) < 2:
    return float("nan")
  return float(np.mean((matrix[-1] - np.diagonal(matrix))[:-1]))


SUMMARIES = {
  "average": average,
  "forgetting": forgetting,
  "backward_transfer": backward_transfer,
}
