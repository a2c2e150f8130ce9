"""Expected calibration error: how far confidence is from accuracy.

    ECE = sum_b (n_b / n) |accuracy_b - confidence_b|

over 15 bins of equal width of the confidence, the largest probability. Guo et
al. 2017, arXiv:1706.04599, equation 3.
"""

import jax
import jax.numpy as jnp
import numpy as np

from normjax.metrics.base import Batch, Metric
from normjax.nn.output import Output
from normjax.types import Array

_BINS = 15


def _gap_by_bin(output: Output, batch: Batch) -> Array:
  """Accuracy less confidence, (..., bins): 0 in all bins but the example's."""
  probability = jax.nn.softmax(output.logits.astype(jnp.float32))
  confidence = jnp.max(probability, axis=-1)
  hit = jnp.argmax(output.logits, axis=-1) == batch["targets"]
  # Bin b holds what is above b / 15 and at most (b + 1) / 15.
  index = jnp.clip(jnp.ceil(confidence * _BINS) - 1, 0, _BINS - 1)
  by_bin = jax.nn.one_hot(index.astype(jnp.int32), _BINS)
  return (hit - confidence)[..., None] * by_bin


def _error(gap_by_bin, dataset) -> float:
  del dataset
  return float(np.sum(np.abs(gap_by_bin)))


METRIC = Metric("calibration_error", _gap_by_bin, _error, targets="classes")
