"""Losses as weighted sums, so that means over any split are exact."""

import jax
import jax.numpy as jnp

from normjax.nn import checks
from normjax.types import Array

Sums = dict[str, Array]


def cross_entropy(
  logits: Array,
  targets: Array,
  weight: Array,
  *,
  label_smoothing: Array | float = 0.0,
  z_loss: Array | float = 0.0,
) -> Sums:
  """Sums of the softmax cross-entropy and of the hits over the examples.

      nll_i = logsumexp(z_i) - z_i[y_i]
      loss_i = (1 - s) nll_i + s mean_c(logsumexp(z_i) - z_ic)
               + zeta logsumexp(z_i)^2

  Args:
    logits: z, (..., c), computed with in float32.
    targets: y, (...), int, from 0 to c - 1, also where the weight is 0.
    weight: (...), 0 for padding.
    label_smoothing: s, Szegedy et al. 2015 (arXiv:1512.00567, section 7).
    z_loss: zeta, the auxiliary loss of PaLM (arXiv:2204.02311, section 5).

  Returns:
    float32 scalars: "objective" (what is minimized), "loss" (the plain nll),
    "accuracy" and "weight", each summed with `weight`.

  Raises:
    UserError: a target that is no class, where that is known.
  """
  checks.check_ids("targets", targets, logits.shape[-1], "num_classes")
  logits = logits.astype(jnp.float32)
  log_normalizer = jax.nn.logsumexp(logits, axis=-1)
  picked = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
  nll = log_normalizer - picked
  smooth = log_normalizer - jnp.mean(logits, axis=-1)
  objective = nll + label_smoothing * (smooth - nll)
  objective += z_loss * jnp.square(log_normalizer)
  hit = jnp.argmax(logits, axis=-1) == targets
  return {
    "objective": jnp.sum(weight * objective),
    "loss": jnp.sum(weight * nll),
    "accuracy": jnp.sum(weight * hit),
    "weight": jnp.sum(weight),
  }
