"""CS-ARM-BN: controls of the same domain join the statistics.

By its equations; the official repository is github.com/ml-jku/cs-arm-bn
(GPL-3), of which nothing is here.
"""

import jax.numpy as jnp

from normjax import norms
from normjax.context import base


def cs_arm_bn() -> base.Method:
  """ARM-BN over the union of the queries and of controls of their domain.

      statistics of (x_1 … x_n, c_1 … c_m),  loss over x_1 … x_n alone

  A gradient passes the controls by the statistics. A single query has m + 1
  examples to be normalized by.
  """
  return base.Method("cs_arm_bn", _forward, needs_controls=True)


def _forward(model, queries, controls, train):
  together = jnp.concatenate([queries, controls])
  logits, stats = model(together, norms.TRAIN if train else base.BATCH)
  return logits[: queries.shape[0]], stats
