"""What the logits that a step returns have seen of the batch."""

from collections.abc import Mapping
from typing import Literal

# nothing: each example by itself, with the model as it was before the batch.
# fitted: the same, by statistics of a whole stream, which were fitted before.
# statistics: the batch's own are in the norms; no state moves.
# updated: the state has moved by the batch, and the logits are the moved one's.
# before_step: the batch's statistics are in them, the step that follows is not.
# corrected: the examples of the batch changed each other's answers afterwards.
Sight = Literal[
  "nothing", "fitted", "statistics", "updated", "before_step", "corrected"
]

SEEN: Mapping[str, Sight] = {
  "source": "nothing",
  "batch": "statistics",
  "ema": "updated",
  "alpha_bn": "statistics",
  "core": "before_step",
  "tent": "before_step",
  "unmix_tns": "statistics",
  "adabn": "fitted",
  "eata": "before_step",
  "sar": "before_step",
  "iabn": "nothing",
  "note": "nothing",
  "lame": "corrected",
  "osuda": "before_step",
}
