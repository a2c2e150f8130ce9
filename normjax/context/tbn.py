"""Trained as ever; predictions with the statistics of the queries.

Nado and others 2020, arXiv:2006.10963. Beside ARM-BN it says what training on
batches of one domain brings.
"""

from normjax import norms
from normjax.context import base


def tbn() -> base.Method:
  """Batches of all domains; in prediction the queries' own statistics."""
  return base.Method("tbn", _forward, of_one_domain=False)


def _forward(model, queries, controls, train):
  del controls
  return model(queries, norms.TRAIN if train else base.BATCH)
