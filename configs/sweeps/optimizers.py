"""Which optimizer of the library trains the small decoder best?

Claim: none; optimizers under the same tuning budget.
Command: normjax sweep configs/sweeps/optimizers.py
Time: about 45 minutes on two cores, 480 runs; `--dry_run` says what runs.

For each of five seeds every optimizer tries three learning rates, a factor 2
apart, around a first guess; where the best of some lies on an edge, all grids
grow by a notch, twice at most; two more trials are around the best. Nothing
else is tuned for any: what an optimizer leaves to AdamW has AdamW's first
guess. 300 steps of a decoder of 64 dimensions say little about a billion
parameters. A rank is a quarter of the model's width, as in APOLLO's paper;
bases are renewed every 50 steps, six times per run.

Twelve rows: each row costs the correction power, and time. `:full` has all.

Rows that are not their source's to the letter: the 8-bit ones cut blocks from
rows and keep the embedding's state in 32 bits, unlike bitsandbytes; swan and
sinkgd are second-hand; apollo_mini has the scale of its README, 128, where a
quarter of this width would be 16.
"""

import ml_collections

from normjax import configure, optim
from normjax import sweep as space

# Of each question the method and what it is compared with.
NAMES = (
  "adamw",
  "adamp",
  "sgd",
  "sgdp",
  "muon",
  "swan",
  "sinkgd",
  "conda",
  "galore",
  "apollo",
  "adamw_8bit",
  "momentum_8bit",
)
# First guesses, where the paper's rate for a large model is not one here.
LEARNING_RATES = {
  "adafactor": 1e-2,
  "adam_8bit": 3e-3,
  "adamp": 3e-3,
  "adamw": 3e-3,
  "adamw_4bit": 3e-3,
  "adamw_8bit": 3e-3,
  "adamw_fp8": 3e-3,
  "lamb": 1e-2,
  "lion": 1e-3,
  "lion_8bit": 1e-3,
  "momentum_8bit": 0.1,
  "scale": 3e-3,
  "sinkgd": 0.04,
  "stable_spam": 3e-3,
  "swan": 0.04,
}
OPTIONS = {
  "apollo": {"rank": 16, "update_proj_gap": 50},
  "apollo_mini": {"update_proj_gap": 50},
  "conda": {"update_proj_gap": 50},
  "fira": {"rank": 16, "update_proj_gap": 50},
  "galore": {"rank": 16, "update_proj_gap": 50},
  # That of adamw; by default the AdamW beside is set for large models.
  "dion": {"fallback_learning_rate": 3e-3},
  "muon": {"fallback_learning_rate": 3e-3},
  "normuon": {"fallback_learning_rate": 3e-3},
}
# ei_sgd is SGD but for models of excitatory and inhibitory cells. nap_adamw
# asks for scale-invariant matrices, and none is here: configs/sweeps/nap.py.
# ngpt_adam goes with a normalized stream: configs/sweeps/placements.py.
ELSEWHERE = ("ei_sgd", "nap_adamw", "ngpt_adam")
_ARGUMENTS = ("debug", "full")


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The run that all points share; `:debug` shrinks it."""
  debug = ":debug" if "debug" in space.words(arg, _ARGUMENTS) else ""
  return configure.load(f"configs/default.py{debug}")


def method(name: str) -> dict:
  """One row."""
  options = dict(OPTIONS.get(name, {}))
  if name in LEARNING_RATES:
    options["learning_rate"] = LEARNING_RATES[name]
  return {
    "optimizer.name": name,
    **{f"optimizer.{key}": value for key, value in options.items()},
  }


def sweep(arg: str = "") -> space.Sweep:
  """Optimizers, each tuned for each of five seeds, compared with AdamW."""
  names = NAMES
  if "full" in space.words(arg, _ARGUMENTS):
    names = [name for name in optim.names() if name not in ELSEWHERE]
  return space.Sweep(
    methods=[method(name) for name in names],
    baseline="adamw",
    seeds=(1, 2, 3, 4, 5),
    tune=space.Tune(
      {"optimizer.learning_rate": (0.5, 1.0, 2.0)}, relative=True
    ),
  )
