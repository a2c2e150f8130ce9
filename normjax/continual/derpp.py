"""DER++: Buzzega and others 2020, arXiv:2004.07211.

As github.com/lvyilin/AdaB2N (MIT licence) has it.
"""

import jax.numpy as jnp

from normjax import validate
from normjax.continual import base
from normjax.types import Array


def derpp(alpha: float = 0.1, beta: float = 0.5) -> base.Learner:
  """Dark experience replay++.

      loss = ce(new) + alpha mean((logits(r_1) - kept(r_1))^2) + beta ce(r_2)

  r_1 and r_2 are two draws from the buffer, which holds the logits that an
  example had when it was stored. The mean is over examples and classes.

  Args:
    alpha: >= 0; 0.1 and beta=0.5 are the AdaB2N repository's of split
      CIFAR-100; (0.2, 0.5) and (0.1, 1.0) of split CIFAR-10 with 500 and 2000
      examples.
    beta: >= 0.

  Raises:
    UserError: a negative number.
  """
  validate.number("derpp", "alpha", alpha, least=0)
  validate.number("derpp", "beta", beta, least=0)
  return base.Learner(
    "derpp",
    _loss,
    num_replays=2,
    keeps_logits=True,
    hyper={"alpha": alpha, "beta": beta},
  )


def _loss(
  new: base.Part,
  replays: tuple[base.Part, ...],
  seen: base.Seen,
  *,
  alpha: Array,
  beta: Array,
) -> Array:
  del seen
  loss = base.cross_entropy(new.logits, new.labels)
  if replays:
    dark, plain = replays
    assert dark.kept is not None
    loss += alpha * jnp.mean(jnp.square(dark.logits - dark.kept))
    loss += beta * base.cross_entropy(plain.logits, plain.labels)
  return loss
