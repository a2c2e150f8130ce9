"""Mean squared error of predicted values."""

import math

import jax.numpy as jnp

from normjax.metrics.base import Batch, Metric
from normjax.nn.output import Output
from normjax.objectives import base


def _root(mean, dataset) -> float:
  del dataset
  return math.sqrt(mean)


ROOT_MEAN_SQUARED_ERROR = Metric(
  "root_mean_squared_error", of=base.LOSS, finish=_root
)


def squared_error() -> base.Objective:
  """Regression by least squares.

      loss_i = mean_d (z_id - y_id)^2

  with the model's output z in place of logits; the mean over the d values of
  an example is PyTorch's MSELoss. "absolute_error" is mean_d |z_id - y_id|.
  Computed in float32.

  Shapes: targets y (..., d) float, weight (...), z as y.
  """

  def sums(output: Output, batch: Batch) -> base.Sums:
    targets, weight = batch["targets"], batch["weight"]
    base.check_weight("squared_error", batch, value_axes=1)
    base.check_shape("squared_error", output, targets, targets.shape)
    error = output.logits.astype(jnp.float32) - targets.astype(jnp.float32)
    total = jnp.sum(weight * jnp.mean(jnp.square(error), axis=-1))
    return {
      "objective": total,
      "loss": total,
      "absolute_error": jnp.sum(weight * jnp.mean(jnp.abs(error), axis=-1)),
    }

  return base.Objective(
    name="squared_error",
    targets="values",
    means=("loss", "absolute_error"),
    weighted_sums=sums,
    metrics=(ROOT_MEAN_SQUARED_ERROR,),
  )
