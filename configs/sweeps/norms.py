"""Which norm of the library trains the small decoder best?

Claim: none; norms for transformers under the same tuning budget.
Command: normjax sweep configs/sweeps/norms.py
Time: about 45 minutes on two cores, 480 runs; `--dry_run` says what runs.

Each norm is in every slot of a pre-norm LLaMA, with the settings that its paper
has for such a model. For each of five seeds it tries three learning rates of
AdamW, a factor 2 apart; where the best of some lies on an edge, all grids grow
by a notch, twice at most; two more trials are around the best. Nothing else is
tuned for any. DyT and Derf have alpha 1, that of the narrowest model of their
papers, and also 16, which AdamW needs at this width (the quick start says why).
PowerNorm and Unified Normalization warm up for a third of the run. Statistics
of a batch (batch_norm, power_norm, unified_norm) mix positions: in training
they let a token see something of later ones.

Twelve rows, one or two of each family: each row costs the correction power,
and time. `:full` has all.
"""

import ml_collections

from normjax import configure
from normjax import sweep as space

NAMES = (
  "rms_norm",
  "layer_norm",
  "l2_norm",
  "dyt",
  "dyt, alpha 16",
  "derf, alpha 16",
  "bhyt",
  "seednorm",
  "gated_norm",
  "power_norm",
  "batch_norm",
  "identity",
)
FULL = (
  *NAMES,
  "crms_norm",
  "scale_norm",
  "derf",
  "pre_affine",
  "unified_norm",
)
# A learned factor on the embeddings goes with DyT and Derf: section 5 of
# arXiv:2503.10622; alpha is that of the narrowest model of its table 11.
_POINTWISE = {"norm.alpha_init": 1.0, "model.scaled_embeddings": True}
OPTIONS = {
  "l2_norm": {"norm.use_scale": True},
  "dyt": _POINTWISE,
  "derf": _POINTWISE,
  "dyt, alpha 16": _POINTWISE | {"norm.alpha_init": 16.0},
  "derf, alpha 16": _POINTWISE | {"norm.alpha_init": 16.0},
  # As in the official scripts: 2 and 1, and RMSNorm before the head.
  "bhyt": {
    "model.slot_norms.attention_input": "bhyt(lam_init=2.0)",
    "model.slot_norms.feed_forward_input": "bhyt(lam_init=1.0)",
    "model.slot_norms.final": "rms_norm",
  },
  "power_norm": {"norm.warmup_steps": 100},
  "unified_norm": {"norm.warmup_steps": 100},
}
_ARGUMENTS = ("debug", "full")


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The run that all points share; `:debug` shrinks it."""
  debug = ":debug" if "debug" in space.words(arg, _ARGUMENTS) else ""
  return configure.load(f"configs/default.py{debug}")


def _method(label: str) -> dict:
  name = label.partition(",")[0]
  return {"norm.name": name} | OPTIONS.get(label, {})


def sweep(arg: str = "") -> space.Sweep:
  """Norms, each tuned for each of five seeds, compared with RMSNorm."""
  names = FULL if "full" in space.words(arg, _ARGUMENTS) else NAMES
  return space.Sweep(
    methods=[_method(name) for name in names],
    labels=names,
    seeds=(1, 2, 3, 4, 5),
    tune=space.Tune(
      {"optimizer.learning_rate": (0.5, 1.0, 2.0)}, relative=True
    ),
  )
