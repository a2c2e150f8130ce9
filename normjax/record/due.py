"""At which steps of a run there is an evaluation, beside every so many."""

import heapq
from collections.abc import Iterator, Mapping
from typing import Any

from normjax import configure


def task_ends(num_tasks: int, num_steps: int) -> tuple[int, ...]:
  """Of tasks that share the steps equally: after how many each is over."""
  return tuple(
    -(-task * num_steps // num_tasks) for task in range(1, num_tasks + 1)
  )


def evaluations(
  config: Mapping[str, Any], every: int, stop: int
) -> tuple[int, Iterator[int]]:
  """The steps before `stop` that are evaluated.

  A damaged file may give any `stop`, so the steps are never all in memory.

  Args:
    config: of the run, plain.
    every: its `evaluate.every_steps`.
    stop: see above.

  Returns:
    How many they are, and the steps in ascending order, made one by one.
  """
  regular, ends = range(0, stop, every), []
  if configure.optional(config, "continual.learner"):
    num_tasks = configure.optional(config, "continual.num_tasks")
    found = {*task_ends(num_tasks, config["train"]["num_steps"])}
    ends = sorted(s for s in found if s < stop and s not in regular)
  return len(regular) + len(ends), heapq.merge(regular, ends)
