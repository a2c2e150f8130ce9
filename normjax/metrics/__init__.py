"""Metrics: what an evaluation measures beside the objective's own means.

`evaluate.metrics` of a config names them, from this table or from anywhere as
"package.module:function". A function (output, batch) -> one value per example
is enough: the metric is its weighted mean. `Metric` says what else it can be.
"""

from normjax.metrics.base import Batch, Metric
from normjax.registry import Registry

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
      as the function.

  Raises:
    UnknownNameError: no such name.
    UserError: what is named cannot be imported, or is no metric.
  """
  found = _REGISTRY.get(name)
  if isinstance(found, Metric):
    return found
  return Metric(name.rpartition(":")[2], found)
