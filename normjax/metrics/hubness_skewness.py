"""Hubness of classes: how unevenly examples find them."""

import jax
import jax.numpy as jnp

from normjax import validate
from normjax.metrics.base import Batch, Metric
from normjax.metrics.recall_at_k import check_classes
from normjax.nn.output import Output
from normjax.types import Array


def hubness_skewness(k: int = 1) -> Metric:
  """The skewness over classes of how many examples have them among k.

      N_k(c) = sum_i w_i [c is among the k best classes of example i]
      skewness(N_k) = mean((N_k - m)^3) / mean((N_k - m)^2)^(3/2)

  with k = 1 unless said, as "hubness_skewness(k=3)", and with classes that no
  example finds; 0 where all are found alike. Skewness has no scale, so that
  shares of examples will do for counts. Radovanovic et al. 2010 (JMLR 11,
  2487); `similarity.hubness` is that of any gallery.

  Args:
    k: classes per example; below their number, or all are found alike.

  Raises:
    UserError: a k below 1, or, where it is measured, above the classes.
  """
  validate.counts("hubness_skewness", k=k)

  def found(output: Output, batch: Batch) -> Array:
    del batch
    check_classes("hubness_skewness", k, output)
    classes = output.logits.shape[-1]
    nearest = jax.lax.top_k(output.logits, k)[1]
    return jnp.sum(jax.nn.one_hot(nearest, classes), axis=-2)

  return Metric("hubness_skewness", found, _skewness, targets="classes")


def _skewness(share_by_class, dataset) -> float:
  del dataset
  from normjax.similarity import skewness

  return float(skewness(share_by_class))
