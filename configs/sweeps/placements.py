"""Where should the norms of a small decoder sit?

Claim: none; placements from one start under the same tuning budget.
Command: normjax sweep configs/sweeps/placements.py
Time: about 40 minutes on two cores, compilation included.

The quick start's LLaMA, two blocks with RMSNorm; for each of five seeds every
placement tries three learning rates, a factor 2 apart; where the best of some
lies on an edge, all grids grow by a notch, twice at most; two more trials are
around the best. Two blocks are few for methods about depth: with
`--config.model.num_layers=12` the question is the papers'.

All rows start with the same kernels, N(0, 0.02): the official code of Mix-LN
and that of LayerNorm Scaling have it for all rows of their tables, and OLMo 2
has it. `:own_starts` gives each placement its own (`placement.TABLE`), of which
pre's is depth-scaled; DeepNorm and SubLN, half of which is a start, are rows
there alone. `:full` has every placement from both starts.

Not rows by default: sandwich is peri without the embedding's norm, hybrid_star
is hybrid but for its first block. Ten rows are nine comparisons: a correction
for their number takes power with each.
"""

import ml_collections

from normjax import configure, errors
from normjax import sweep as space
from normjax.nn import placement

NAMES = (
  "pre",
  "post",
  "mix",
  "layer_norm_scaling",
  "peri",
  "reordered",
  "keel",
  "hybrid",
  "parallel",
  "normalized_stream",
)
# Half of each is its start.
WITH_STARTS = ("deep_norm", "sub_ln")
SHARED = "plain"
OPTIONS = {
  # A quarter of two blocks is none.
  "mix": {"model.placement": "mix(post_percent=50)"},
  # nGPT: no gain may change the stream's length, matrices are normalized after
  # each step, queries and keys after the rotation. RMSNorm's vectors are nGPT's
  # times the root of their size, which gives its factors of scores and of the
  # feed-forward. s_qk are the gains of queries and keys, each its own and
  # shared by heads; s_uv stays 1, and there is no s_z.
  "normalized_stream": {
    "norm.use_scale": False,
    "model.slot_norms.query_key": "rms_norm",
    "model.query_key_norm_after_rotation": True,
    "optimizer.name": "ngpt_adam",
    # Vectors of length 1 take larger steps than kernels of 0.02.
    "optimizer.learning_rate": 0.03,
  },
}
_ARGUMENTS = ("debug", "own_starts", "full")


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The run that all points share; `:debug` shrinks it."""
  words = _words(arg)
  debug = ":debug" if "debug" in words else ""
  start = "placement" if "own_starts" in words else SHARED
  return configure.override(
    configure.load(f"configs/default.py{debug}"), {"model.init": start}
  )


def _words(arg: str) -> list[str]:
  """The parts of an argument as `full` or `own_starts,debug`."""
  words = space.words(arg, _ARGUMENTS)
  if {"own_starts", "full"} <= set(words):
    raise errors.UserError("own_starts and full exclude each other.")
  return words


def _method(name: str, **start: str) -> dict:
  more = {f"model.{key}": value for key, value in start.items()}
  return {"model.placement": name} | OPTIONS.get(name, {}) | more


def sweep(arg: str = "") -> space.Sweep:
  """Placements, each tuned, compared with pre over five seeds."""
  words = _words(arg)
  names = NAMES + WITH_STARTS if "own_starts" in words else NAMES
  rows = {name: _method(name) for name in names}
  if "full" in words:
    rows = {name: _method(name) for name in placement.TABLE.names()}
    rows |= {
      f"{name}, own start": _method(name, init="placement")
      for name in placement.TABLE.names()
      if placement.resolve(name).init != SHARED
    }
  return space.Sweep(
    methods=list(rows.values()),
    labels=list(rows),
    seeds=(1, 2, 3, 4, 5),
    tune=space.Tune(
      {"optimizer.learning_rate": (0.5, 1.0, 2.0)}, relative=True
    ),
  )
