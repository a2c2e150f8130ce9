"""ARM-BN: Zhang, Marklund and others 2021, arXiv:2007.02931.

Its official repository is github.com/henrikmarklund/arm (MIT licence).
"""

from normjax import norms
from normjax.context import base


def arm_bn() -> base.Method:
  """Batches of one domain each, normalized by themselves.

  In prediction, too: the running statistics move in training as the official
  ones do, and nothing reads them. Its official code leaves dropout on there;
  here it is off.
  """
  return base.Method("arm_bn", _forward)


def _forward(model, queries, controls, train):
  del controls
  return model(queries, norms.TRAIN if train else base.BATCH)
