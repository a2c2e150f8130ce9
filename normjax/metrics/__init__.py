"""Metrics: what an evaluation measures beside the objective's own means.

`evaluate.metrics` of a config names them, from this table or from anywhere as
"package.module:function". A function (output, batch) -> one value per example
is enough: the metric is its weighted mean. `Metric` says what else it can be.
"""

from normjax.metrics.base import Batch, Metric
from normjax.registry import Registry, parse_call

# Each is a `Metric`, or a function that gives a value per example.
TABLE = {
  "calibration_error": "normjax.metrics.calibration_error:METRIC",
  "perplexity": "normjax.metrics.perplexity:METRIC",
  "top5_accuracy": "normjax.metrics.top5_accuracy:METRIC",
}
_REGISTRY = Registry("metric", TABLE, from_outside=True)
names = _REGISTRY.names

__all__ = ["TABLE", "Batch", "Metric", "get", "names"]


def get(name: str) -> Metric:
  """The metric of that name.

  Args:
    name: of the table, or "package.module:function", whose metric is called
      as the function. With options, "package.module:make(k=5)" makes one,
      which is called "make(k=5)" unless it has a name.

  Raises:
    UnknownNameError: no such name.
    UserError: what is named cannot be imported, or is no metric.
  """
  bare, options = parse_call("metric", name)
  found = _REGISTRY.make(bare, **options) if options else _REGISTRY.get(bare)
  if isinstance(found, Metric):
    return found
  return Metric(name.partition(":")[2] or name, found)
