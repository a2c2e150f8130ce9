"""Context: examples of the same domain that a prediction is normalized by.

    train, test = context.Domains(…), context.Domains(…)
    model = context.train(model, train, "cs_arm_bn", batch_size=64)
    context.accuracies(model, test, "cs_arm_bn", sizes=(64, 8, 1))

`erm` has none, `tbn` and `arm_bn` the other queries, `cs_arm_bn` queries and
controls, `ben` controls alone. A method is a file here and a line of
`table.TABLE`.
"""

from normjax.context.base import Bound, Method
from normjax.context.loop import accuracies, measured, predict, train
from normjax.context.table import TABLE, make, names, resolve
from normjax.data.blocks import Block, Domains, queries, sampled

__all__ = [
  "TABLE",
  "Block",
  "Bound",
  "Domains",
  "Method",
  "accuracies",
  "make",
  "measured",
  "names",
  "predict",
  "queries",
  "resolve",
  "sampled",
  "train",
]
