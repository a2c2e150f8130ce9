"""Experience replay: Chaudhry and others 2019, arXiv:1902.10486."""

from normjax import validate
from normjax.continual import base
from normjax.types import Array


def er(replay_weight: float = 1.0) -> base.Learner:
  """Experience replay.

      loss = ce(new) + replay_weight ce(replay)

  Both are means over their examples. A mean over all of them together, as some
  codes have it, is for equal sizes half of this with `replay_weight=1`.

  Args:
    replay_weight: >= 0.

  Raises:
    UserError: a negative weight.
  """
  validate.number("er", "replay_weight", replay_weight, least=0)
  return base.Learner("er", _loss, hyper={"replay_weight": replay_weight})


def _loss(
  new: base.Part,
  replays: tuple[base.Part, ...],
  seen: base.Seen,
  *,
  replay_weight: Array,
) -> Array:
  del seen
  loss = base.cross_entropy(new.logits, new.labels)
  for part in replays:
    loss += replay_weight * base.cross_entropy(part.logits, part.labels)
  return loss
