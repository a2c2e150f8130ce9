"""Task-incremental accuracy: the share of hits where the task is known.

Of classes that come in tasks of as many each, as van de Ven, Tolias 2019,
arXiv:1904.07734, call it.
"""

import functools

import jax.numpy as jnp

from normjax import validate
from normjax.metrics.base import Batch, Metric
from normjax.metrics.hits import hits as all_hits
from normjax.nn.output import Output
from normjax.types import Array


def task_accuracy(classes_per_task: int = 2) -> Metric:
  """The share of examples whose class is the best of its task's classes.

      evaluate.metrics = ("task_accuracy(classes_per_task=10)",)

  Args:
    classes_per_task: class c is of task c // classes_per_task; 2 as in split
      CIFAR-10.

  Raises:
    UserError: it is less than 1.
  """
  validate.count("task_accuracy", "classes_per_task", classes_per_task, least=1)
  of = functools.partial(_hits, classes_per_task)
  return Metric("task_accuracy", of, targets="classes")


def hits(logits: Array, labels: Array, classes_per_task: int) -> Array:
  """Whether the best class of the label's task is the label, (...).

  Args:
    logits: (..., c).
    labels: (...).
    classes_per_task: see `task_accuracy`.
  """
  task = jnp.arange(logits.shape[-1]) // classes_per_task
  own = task == (labels // classes_per_task)[..., None]
  return all_hits(jnp.where(own, logits, -jnp.inf), labels)


def _hits(classes_per_task: int, output: Output, batch: Batch) -> Array:
  return hits(output.logits, batch["targets"], classes_per_task)
