"""Empirical risk minimization: batches of all domains, running statistics."""

from normjax import norms
from normjax.context import base


def erm() -> base.Method:
  """What a model does without context: the baseline."""
  return base.Method("erm", _forward, of_one_domain=False)


def _forward(model, queries, controls, train):
  del controls
  return model(queries, norms.TRAIN if train else norms.EVALUATE)
