"""Top-5 accuracy: the share of examples whose class is among the five best.

As in ImageNet's challenge, Russakovsky et al. 2015, arXiv:1409.0575.
"""

import jax.numpy as jnp

from normjax.metrics.base import Batch, Metric
from normjax.nn.output import Output
from normjax.types import Array


def _is_among_five(output: Output, batch: Batch) -> Array:
  # A class with the same logit counts as a better one: constant logits, which
  # know nothing, do not score. Logits that are no numbers do not, either.
  own = jnp.take_along_axis(output.logits, batch["targets"][..., None], -1)
  return jnp.sum(~(output.logits < own), axis=-1) <= 5


METRIC = Metric("top5_accuracy", _is_among_five, targets="classes")
