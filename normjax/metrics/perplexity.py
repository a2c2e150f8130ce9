"""Perplexity: exp of the mean negative log-likelihood in nats."""

import math

import jax
import jax.numpy as jnp

from normjax.metrics.base import Batch, Metric
from normjax.nn.output import Output
from normjax.types import Array


def _negative_log_likelihood(output: Output, batch: Batch) -> Array:
  log_p = jax.nn.log_softmax(output.logits.astype(jnp.float32))
  return -jnp.take_along_axis(log_p, batch["targets"][..., None], -1)[..., 0]


def _exp(mean, dataset) -> float:
  del dataset
  try:
    return math.exp(mean)
  except OverflowError:
    return math.inf


METRIC = Metric("perplexity", _negative_log_likelihood, _exp, targets="classes")
