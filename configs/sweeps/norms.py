"""Which norm of the library trains the small decoder best?

Claim: none; the norms for transformers under the same tuning budget.
Command: normjax sweep configs/sweeps/norms.py
Time: about a quarter of an hour on two cores, compilation included.

Each norm is in every slot of a pre-norm LLaMA, with the settings that its paper
has for such a model, and tries three learning rates of AdamW, a factor 3 apart;
where the best of some lies on an edge, all grids grow by a notch, twice at
most. PowerNorm and Unified Normalization warm up for a third of the run.
Statistics of a batch (batch_norm, power_norm, unified_norm) mix positions: in
training they let a token see something of later ones.
"""

import ml_collections

from normjax import configure
from normjax import sweep as space

NAMES = (
  "rms_norm",
  "layer_norm",
  "crms_norm",
  "scale_norm",
  "l2_norm",
  "dyt",
  "derf",
  "bhyt",
  "seednorm",
  "gated_norm",
  "pre_affine",
  "power_norm",
  "unified_norm",
  "batch_norm",
  "identity",
)
# A learned factor on the embeddings goes with DyT and Derf: section 5 of
# arXiv:2503.10622; alpha is that of the narrowest model of its table 11.
_POINTWISE = {"norm.alpha_init": 1.0, "model.scaled_embeddings": True}
OPTIONS = {
  "l2_norm": {"norm.use_scale": True},
  "dyt": _POINTWISE,
  "derf": _POINTWISE,
  # As in the official scripts: 2 and 1, and RMSNorm before the head.
  "bhyt": {
    "model.slot_norms.attention_input": "bhyt(lam_init=2.0)",
    "model.slot_norms.feed_forward_input": "bhyt(lam_init=1.0)",
    "model.slot_norms.final": "rms_norm",
  },
  "power_norm": {"norm.warmup_steps": 100},
  "unified_norm": {"norm.warmup_steps": 100},
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The run that all points share; `:debug` shrinks it."""
  return configure.load(f"configs/default.py{':' if arg else ''}{arg}")


def sweep() -> space.Sweep:
  """Fifteen norms, tuned with one seed, compared with five others."""
  return space.Sweep(
    methods=[{"norm.name": name} | OPTIONS.get(name, {}) for name in NAMES],
    seeds=(1, 2, 3, 4, 5),
    tune=space.Tune(
      {"optimizer.learning_rate": (1 / 3, 1.0, 3.0)}, relative=True
    ),
  )
