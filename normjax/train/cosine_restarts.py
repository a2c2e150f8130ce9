"""A cosine to which the learning rate rises again after each restart.

Lialin et al. 2023 (ReLoRA), arXiv:2307.05695, section 3, "jagged" schedule,
second-hand; after the official code, Guitaricet/relora at 176f376 (Apache-2.0),
peft_pretraining/training_utils.py, `cosine_restarts`.
"""

import jax.numpy as jnp

from normjax.train import schedules
from normjax.types import Array


def cosine_restarts(step: Array, scalars: schedules.Scalars) -> Array:
  """Half a cosine to final_fraction, to which it rises again in each cycle.

      c(t) = final + (1 - final) (1 + cos(pi (t - w) / (T - w))) / 2
      f(t) = (t + 1) / w                                           t < w
      f(t) = (u - k R + 1) / v  c(k R + v)    0 <= u - k R < v,  k >= 1
      f(t) = c(u)                                                  else

  with u = t + adjust_steps, T = num_steps, w = warmup_fraction T, R =
  restart_every and v = restart_warmup_steps.

  Warm-ups count from 1, as those of all schedules here: the first step after a
  restart moves. In the official code they count from 0, and layers restart
  after the step of rate zero, so that both take the same steps in a cycle but
  for that one. Two more differences, with adjust_steps > 0 alone: there the
  first restart, at u = R, rises only from t = R on; and c goes up again where
  u > T, where here it stays at `final`.

  Args:
    step: t, from 0.
    scalars: see `schedules.get`; beside the config's restart_every and
      adjust_steps, as `schedules.of_config` gives them.
  """
  first = scalars["warmup_fraction"] * scalars["num_steps"]
  every = scalars["restart_every"]
  rise = jnp.asarray(scalars["restart_warmup_steps"])
  shifted = step + scalars["adjust_steps"]
  since = shifted % every
  top = schedules.cosine(shifted - since + rise, scalars, first)
  restarted = jnp.where(
    (shifted >= every) & (since < rise),
    (since + 1) / jnp.maximum(rise, 1) * top,
    schedules.cosine(shifted, scalars, first),
  )
  # Half a step off: products such as 0.3 * 100 are not whole in float32.
  in_warmup = step + 0.5 < first
  return jnp.where(in_warmup, schedules.warmup(step, scalars), restarted)
