"""Metrics: what an evaluation measures beside the objective's own means.

`evaluate.metrics` of a config names them, from this table or from anywhere as
"package.module:function". A function (output, batch) -> one value per example
is enough: the metric is its weighted mean. `Metric` says what else it can be.
"""

from normjax.metrics.activations import OfActivations
from normjax.metrics.base import Batch, Metric
from normjax.registry import Registry, parse_call
from normjax.signatures import is_of_batch

# Each is a `Metric`, a function that gives a value per example, or a factory of
# metrics.
TABLE = {
  "calibration_error": "normjax.metrics.calibration_error:METRIC",
  "ffn_hard_rank": "normjax.metrics.ffn_rank:hard",
  "ffn_soft_rank": "normjax.metrics.ffn_rank:soft",
  "hubness_skewness": "normjax.metrics.hubness_skewness:hubness_skewness",
  "perplexity": "normjax.metrics.perplexity:METRIC",
  "recall_at_k": "normjax.metrics.recall_at_k:recall_at_k",
  "task_accuracy": "normjax.metrics.task_accuracy:task_accuracy",
  "top5_accuracy": "normjax.metrics.top5_accuracy:METRIC",
}
_REGISTRY = Registry("metric", TABLE, from_outside=True)
names = _REGISTRY.names

__all__ = ["TABLE", "Batch", "Metric", "OfActivations", "get", "names"]


def get(name: str) -> Metric:
  """The metric of that name.

  Args:
    name: of the table, as "top5_accuracy" or "recall_at_k(k=3)", which is then
      what the metric is called; or "package.module:function", whose metric is
      called as the function. With options, "package.module:make(k=5)" makes
      one, which is called "make(k=5)" unless it has a name.

  Raises:
    UnknownNameError: no such name.
    UserError: what is named cannot be imported, or is no metric.
  """
  bare, options = parse_call("metric", name)
  found = _REGISTRY.get(bare)
  ours = bare in TABLE
  is_factory = not isinstance(found, Metric) and not is_of_batch(found)
  if options or (ours and is_factory):
    found = _REGISTRY.call(bare, found, **options)
  if isinstance(found, Metric):
    return found._replace(name=name) if ours else found
  return Metric(name.partition(":")[2] or name, found)
