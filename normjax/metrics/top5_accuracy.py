"""Top-5 accuracy: the share of examples whose class is among the five best.

As in ImageNet's challenge, Russakovsky et al. 2015, arXiv:1409.0575.
"""

from normjax.metrics.base import Batch, Metric
from normjax.metrics.recall_at_k import places_needed
from normjax.nn.output import Output
from normjax.types import Array


def _is_among_five(output: Output, batch: Batch) -> Array:
  return places_needed(output, batch) <= 5


METRIC = Metric("top5_accuracy", _is_among_five, targets="classes")
