"""Softmax cross-entropy of classes, with label smoothing and z-loss."""

import math

import jax
import jax.numpy as jnp

from kernels_pallas import dispatch
from normjax import validate
from normjax.metrics.base import Batch, Metric
from normjax.nn import checks
from normjax.nn.output import Output
from normjax.objectives import base
from normjax.types import Array


def _bits(nats, dataset) -> float:
  return float(nats) / math.log(2) / dataset.bytes_per_token


LOGITS_DTYPES = ("float32", "bfloat16")
BITS_PER_BYTE = Metric(
  "bits_per_byte", of=base.LOSS, finish=_bits, needs="bytes_per_token"
)


def cross_entropy(
  label_smoothing: Array | float = 0.0,
  z_loss: Array | float = 0.0,
  logits_dtype: str = "float32",
) -> base.Objective:
  """The objective; see `weighted_sums`.

  Its means are "loss", the plain nll in nats, and "accuracy"; of text also
  "bits_per_byte".

  Args:
    label_smoothing: s, `train.label_smoothing` of a config.
    z_loss: zeta, `train.z_loss` of a config.
    logits_dtype: see `weighted_sums`.

  Raises:
    UserError: another dtype.
  """
  validate.choice("cross_entropy", "logits_dtype", logits_dtype, LOGITS_DTYPES)

  def sums(output: Output, batch: Batch) -> base.Sums:
    targets = batch["targets"]
    base.check_weight("cross_entropy", batch)
    base.check_shape("cross_entropy", output, targets, (*targets.shape, -1))
    return weighted_sums(
      output.logits,
      targets,
      batch["weight"],
      label_smoothing=label_smoothing,
      z_loss=z_loss,
      logits_dtype=logits_dtype,
    )

  return base.Objective(
    name="cross_entropy",
    targets="classes",
    means=("loss", "accuracy"),
    weighted_sums=sums,
    metrics=(BITS_PER_BYTE,),
  )


def weighted_sums(
  logits: Array,
  targets: Array,
  weight: Array,
  *,
  label_smoothing: Array | float = 0.0,
  z_loss: Array | float = 0.0,
  logits_dtype: str = "float32",
) -> base.Sums:
  """Sums of the softmax cross-entropy and of the hits over the examples.

      nll_i = logsumexp(z_i) - z_i[y_i]
      objective_i = (1 - s) nll_i + s mean_c(logsumexp(z_i) - z_ic)
                    + zeta logsumexp(z_i)^2

  Args:
    logits: z, (..., c), computed with in float32.
    targets: y, (...), int, from 0 to c - 1, also where the weight is 0.
    weight: (...), 0 for padding.
    label_smoothing: s, Szegedy et al. 2015 (arXiv:1512.00567, section 7).
    z_loss: zeta, the auxiliary loss of PaLM (arXiv:2204.02311, section 5).
    logits_dtype: that of the logits, and of their gradient, where they are
      written. "bfloat16" halves what the loss of a large vocabulary moves and
      keeps; all sums stay float32.

  Returns:
    float32 scalars: "objective" (what is minimized), "loss" (the plain nll)
    and "accuracy", each summed with `weight`.

  Raises:
    UserError: a target that is no class, where that is known.
  """
  checks.check_ids("targets", targets, logits.shape[-1], "num_classes")
  logits = logits.astype(logits_dtype).astype(jnp.float32)
  log_normalizer = jax.nn.logsumexp(logits, axis=-1)
  nll = log_normalizer - picked(logits, targets)
  smooth = log_normalizer - jnp.mean(logits, axis=-1)
  objective = nll + label_smoothing * (smooth - nll)
  objective += z_loss * jnp.square(log_normalizer)
  hit = jnp.argmax(logits, axis=-1) == targets
  return {
    "objective": jnp.sum(weight * objective),
    "loss": jnp.sum(weight * nll),
    "accuracy": jnp.sum(weight * hit),
  }


def picked(logits: Array, targets: Array) -> Array:
  """z_i[y_i]: one number in three forms, of which each platform has its best.

  The gradient of a gather is a scatter. CPUs add it in place to the rest of the
  gradient. GPUs write zeros of the size of the logits first, and add both in a
  further pass; there a comparison within the pass that writes the rest is free.
  TPUs have that comparison forwards too: it joins another sum over the logits,
  and a gather would have them in float32 that may be bfloat16.

  Args:
    logits: z, (..., c).
    targets: y, (...), int.
  """
  platform = dispatch.target(logits).platform
  return _FORMS.get(platform, gathered_summed_back)(logits, targets)


def gathered(values: Array, targets: Array) -> Array:
  """v_i[y_i], (...), of values (..., c)."""
  return jnp.take_along_axis(values, targets[..., None], axis=-1)[..., 0]


def summed(values: Array, targets: Array) -> Array:
  """sum_c [c = y_i] v_ic, (...), of values (..., c).

  As a gather has it: of a negative y the class that counts from the end, NaN
  of one beyond it.
  """
  count = values.shape[-1]
  # Targets of 8 bits may be too narrow to count the classes in.
  ids = targets.astype(jnp.int32)
  ids = jnp.where(ids < 0, ids + count, ids)
  classes = jax.lax.broadcasted_iota(jnp.int32, values.shape, values.ndim - 1)
  found = jnp.sum(jnp.where(classes == ids[..., None], values, 0), axis=-1)
  return jnp.where((ids >= 0) & (ids < count), found, jnp.nan)


@jax.custom_jvp
def gathered_summed_back(values: Array, targets: Array) -> Array:
  """`gathered`, with the gradient of `summed`."""
  return gathered(values, targets)


@gathered_summed_back.defjvp
def _gathered_summed_back_jvp(primals, tangents):
  values, targets = primals
  return gathered(values, targets), summed(tangents[0], targets)


_FORMS = {"cpu": gathered, "tpu": summed}
