"""At which steps of a run there is an evaluation, beside every so many."""

from collections.abc import Mapping
from typing import Any

from normjax import configure


def task_ends(num_tasks: int, num_steps: int) -> tuple[int, ...]:
  """Of tasks that share the steps equally: after how many each is over."""
  return tuple(
    -(-task * num_steps // num_tasks) for task in range(1, num_tasks + 1)
  )


def evaluations(config: Mapping[str, Any], every: int, stop: int) -> list[int]:
  """The steps before `stop` that are evaluated.

  Args:
    config: of the run, plain.
    every: its `evaluate.every_steps`.
    stop: see above.
  """
  steps = {*range(0, stop, every)}
  if configure.optional(config, "continual.learner"):
    num_tasks = configure.optional(config, "continual.num_tasks")
    steps |= {*task_ends(num_tasks, config["train"]["num_steps"])}
  return sorted(step for step in steps if step < stop)
