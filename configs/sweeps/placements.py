"""Where should the norms of a small decoder sit?

Claim: none; every placement under the same tuning budget.
Command: normjax sweep configs/sweeps/placements.py
Time: about a quarter of an hour on two cores, compilation included.

The quick start's LLaMA, two blocks with RMSNorm; each placement starts as its
paper says (`placement.TABLE`) and tries three learning rates of AdamW, a factor
3 apart; where the best of some lies on an edge, all grids grow by a notch,
twice at most. Two blocks are few for methods about depth: with
`--config.model.num_layers=12` the question is the papers'.
"""

import ml_collections

from normjax import configure
from normjax import sweep as space
from normjax.nn import placement

OPTIONS = {
  # A quarter of two blocks is none.
  "mix": {"model.placement": "mix(post_percent=50)"},
  # OLMo 2 normalizes the queries and keys of all heads together.
  "reordered": {"model.query_key_norm_axes": "joint"},
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The run that all points share; `:debug` shrinks it."""
  return configure.load(f"configs/default.py{':' if arg else ''}{arg}")


def sweep() -> space.Sweep:
  """Every placement, tuned with one seed, compared with five others."""
  return space.Sweep(
    methods=[
      {"model.placement": name} | OPTIONS.get(name, {})
      for name in placement.TABLE.names()
    ],
    seeds=(1, 2, 3, 4, 5),
    tune=space.Tune(
      {"optimizer.learning_rate": (1 / 3, 1.0, 3.0)}, relative=True
    ),
  )
