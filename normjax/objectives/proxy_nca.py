"""Proxy-NCA: cross-entropy without the own class in the sum.

Movshovitz-Attias et al. 2017, arXiv:1703.07464, equation 4; of the paper the
abstract was read, the equation is known from others' accounts of it.
"""

import jax
import jax.numpy as jnp

from normjax import errors
from normjax.metrics.base import Batch
from normjax.nn import checks
from normjax.nn.output import Output
from normjax.objectives import base, cross_entropy


def proxy_nca() -> base.Objective:
  """Neighbourhood components analysis with a proxy per class.

      objective_i = logsumexp over c != y_i of z_ic - z_iy

  with logits z_c = -||e - w_c||^2 of a head of unit vectors: with
  `model.head="normalized_softmax(temperature=0.5)"` they are that less a
  constant, as ||e - w||^2 = 2 - 2 cos. The normalized softmax
  (arXiv:1811.12649) has the own class in the sum. Logits of a linear head have
  no bound, and neither has this objective then.

  Its means are "loss", the nll of the softmax with all classes, as that of
  `cross_entropy`, so that both can be compared, and "accuracy". float32.

  Shapes: targets y (...) int, weight (...), logits z (..., c) with c >= 2.
  """

  def sums(output: Output, batch: Batch) -> base.Sums:
    targets, weight = batch["targets"], batch["weight"]
    base.check_weight("proxy_nca", batch)
    base.check_shape("proxy_nca", output, targets, (*targets.shape, -1))
    logits = output.logits.astype(jnp.float32)
    classes = logits.shape[-1]
    if classes < 2:
      raise errors.UserError(
        f"objective.name='proxy_nca': logits of {classes} class; allowed: 2 or"
        " more, of which the others push away."
      )
    checks.check_ids("targets", targets, classes, "num_classes")
    plain = cross_entropy.weighted_sums(logits, targets, weight)
    others = jnp.arange(classes) != targets[..., None].astype(jnp.int32)
    pushed = jax.nn.logsumexp(logits, axis=-1, where=others)
    pulled = cross_entropy.picked(logits, targets)
    return plain | {"objective": jnp.sum(weight * (pushed - pulled))}

  return base.Objective(
    name="proxy_nca",
    targets="classes",
    means=("loss", "accuracy"),
    weighted_sums=sums,
  )
