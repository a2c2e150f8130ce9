"""Do gains around a matrix that reads a norm help, and in which form?

Claim: in pre-norm decoders gains add no function, yet training without them
ends worse; each of three changes, and all together with a decay of input gains,
end better (arXiv:2605.26895, abstract). Readers of the paper report 0.015 nats
lost without gains at 0.12B parameters and 0.04 won by all changes from 0.12B to
2B. Expected here, at 0.13M parameters and 300 steps, before it was run: the
order no gains > gains > each change > all, in evaluation loss; differences
under 0.02 nats, which five seeds may not tell apart; none from the decay, which
in 300 steps takes less than a twentieth off a gain.
Command: normjax sweep configs/sweeps/scale_vectors.py
Time: not measured yet; `--dry_run` says how many runs there are.

The paper's formulas were not read. Three readings are ours: a gain on what each
matrix reads and on what it gives, with RMS normalization between or without
(`model.reader_output_scales`); a gain as magnitude times direction
(`norm.scale_form`); which gains decay (`optimizer.mask`). The quick start's
LLaMA with a weight decay of 0.1; for each of five seeds each row tries three
learning rates of AdamW, a factor 2 apart; where the best of some lies on an
edge, all grids grow by a notch, twice at most; two more are around the best.
"""

import ml_collections

from normjax import configure
from normjax import sweep as space

_DECAYED = {"optimizer.mask": "input_scales"}
_HETEROGENEOUS = {"model.reader_scales": True}
_NORM_BETWEEN = {"model.reader_output_scales": "normalized"}
_MAGNITUDE = {"norm.scale_form": "magnitude_direction"}
METHODS = {
  "gains": {"norm.use_scale": True},
  "no gains": {"norm.use_scale": False},
  "gains, decayed at inputs": _DECAYED,
  "a gain per reader": _HETEROGENEOUS,
  "gains on both sides": {"model.reader_output_scales": "plain"},
  "gains on both sides, a norm between": _NORM_BETWEEN,
  "magnitude times direction": _MAGNITUDE,
  "all, decayed at inputs": (
    _HETEROGENEOUS | _NORM_BETWEEN | _MAGNITUDE | _DECAYED
  ),
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The run that all points share; `:debug` shrinks it."""
  config = configure.load(f"configs/default.py{':' if arg else ''}{arg}")
  return configure.override(config, {"optimizer.weight_decay": 0.1})


def sweep() -> space.Sweep:
  """Eight kinds of gains, tuned for each of five seeds."""
  return space.Sweep(
    methods=list(METHODS.values()),
    labels=list(METHODS),
    seeds=(1, 2, 3, 4, 5),
    baseline="gains",
    tune=space.Tune(
      {"optimizer.learning_rate": (0.5, 1.0, 2.0)}, relative=True
    ),
  )
