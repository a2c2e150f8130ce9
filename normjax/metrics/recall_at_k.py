"""Recall at k: the share of examples whose class is among the k best."""

import jax.numpy as jnp

from normjax import errors, validate
from normjax.metrics.base import Batch, Metric
from normjax.nn.output import Output
from normjax.types import Array


def recall_at_k(k: int = 1) -> Metric:
  """The share of examples whose class is among the k best.

      evaluate.metrics = ("recall_at_k(k=2)", "recall_at_k(k=4)")

  With k = 1 unless said it is the accuracy, but for ties, and with 5
  `top5_accuracy`. The gallery are the classes, as a head's vectors stand for
  them. Of embeddings among each other it is no mean over examples: that is
  `similarity.recall_at_k`.

  Args:
    k: places.

  Raises:
    UserError: a k below 1, or, where it is measured, above the classes.
  """
  validate.counts("recall_at_k", k=k)

  def among_k(output: Output, batch: Batch) -> Array:
    check_classes("recall_at_k", k, output)
    return places_needed(output, batch) <= k

  return Metric("recall_at_k", among_k, targets="classes")


def places_needed(output: Output, batch: Batch) -> Array:
  """How many classes have at least the logit of the example's own, (...).

  A class with the same logit counts as a better one: constant logits, which
  know nothing, do not score. Logits that are no numbers do not, either.
  """
  own = jnp.take_along_axis(output.logits, batch["targets"][..., None], -1)
  return jnp.sum(~(output.logits < own), axis=-1)


def check_classes(name: str, k: int, output: Output) -> None:
  """Raises UserError where there are fewer than k classes."""
  classes = output.logits.shape[-1]
  if k > classes:
    raise errors.UserError(
      f"{name}: k={k}; allowed: an int from 1 to {classes}, the number of"
      " classes."
    )
