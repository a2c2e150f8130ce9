"""ER-ACE: Caccia and others 2022, arXiv:2104.05025.

As github.com/lvyilin/AdaB2N (MIT licence) has it.
"""

import jax.numpy as jnp

from normjax.continual import base
from normjax.types import Array


def er_ace() -> base.Learner:
  """Experience replay with an asymmetric cross-entropy.

      loss = ce(new, over the classes of this batch and later ones) + ce(replay)

  From the second task on: the first has no replay, and all classes. New
  examples so push down no logit of an old class. "Later" are the classes from
  the largest label seen so far, that one included as in the official code,
  unless that is the last of all classes.
  """
  return base.Learner("er_ace", _loss, replays_from=1)


def _loss(
  new: base.Part, replays: tuple[base.Part, ...], seen: base.Seen
) -> Array:
  logits = new.logits
  if replays:
    classes = jnp.arange(logits.shape[-1])
    present = jnp.any(new.labels[:, None] == classes, axis=0)
    last = seen.last_class
    later = (classes >= last) & (last < classes.size - 1)
    lowest = jnp.finfo(logits.dtype).min
    logits = jnp.where(present | later, logits, lowest)
  loss = base.cross_entropy(logits, new.labels)
  for part in replays:
    loss += base.cross_entropy(part.logits, part.labels)
  return loss
