"""Continual learning: classes come in tasks, and few old examples are kept.

    stream = continual.split(train, test, num_tasks=5, seed=0)
    model = models.make("cifar_resnet", num_classes=10, …, norm="adab2n")
    result = continual.run(model, stream, "er", forward="joint", seed=0)
    result.accuracies.summary()

What a norm of batches does when replayed and new examples share a batch is
half of the question, so that each learner runs with both (`forward`). A learner
is a file here and a line of `table.TABLE`.
"""

from normjax.continual.base import Learner, Part, Seen
from normjax.continual.loop import Result, run
from normjax.continual.scores import (
  Accuracies,
  average,
  backward_transfer,
  forgetting,
)
from normjax.continual.table import TABLE, make, names, resolve
from normjax.continual.tasks import TaskStream, of_dataset, split

__all__ = [
  "TABLE",
  "Accuracies",
  "Learner",
  "Part",
  "Result",
  "Seen",
  "TaskStream",
  "average",
  "backward_transfer",
  "forgetting",
  "make",
  "names",
  "of_dataset",
  "resolve",
  "run",
  "split",
]
