"""Does the speed-up of Muon and of SinkGD over AdamW last as models grow?

Claim: none of ours; arXiv:2509.02046 finds that the speed-up of matrix methods
over a tuned AdamW shrinks with size, from 1.4 at 0.1B parameters to 1.1 at
1.2B. Here the largest model has 0.9M: what is shown is how to ask.
Command: normjax sweep configs/sweeps/ladder.py
Time: about 25 minutes on two cores, compilation included.

Three sizes, width and depth doubled together, at three budgets, each a run of
its own; a fourth one of AdamW, so that its curve reaches what the others do.
Rates are tuned at the middle size and budget, for each seed. SinkGD's are
carried by width; Muon's as they are, since its updates have one spectral norm
at every width; AdamW's as they are: it has one rate for all parameters. With
seed 11, after 300 steps at width 128, the other rule did worse for both: AdamW
1.957 by width and 1.943 without, SinkGD 1.887 without and 1.872 by width.
`:debug` shrinks all of it to a few minutes; its numbers mean nothing.
"""

import ml_collections

from normjax import configure
from normjax import sweep as space

BUDGETS = (100, 200, 400)
# For the losses that the others have after 400 steps.
BASELINE_BUDGETS = (1200,)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The run that all points share; `:debug` shrinks it."""
  config = configure.load(f"configs/default.py{':' if arg else ''}{arg}")
  return configure.override(
    config,
    {
      "evaluate.every_steps": max(BASELINE_BUDGETS),
      "checkpoint.every_steps": 0,
    },
  )


def size(model_dim: int, num_layers: int) -> dict:
  """Heads of 16 dimensions at every width."""
  return {
    "model.model_dim": model_dim,
    "model.num_layers": num_layers,
    "model.num_heads": model_dim // 16,
  }


def sweep(arg: str = "") -> space.Sweep:
  """AdamW, Muon, SinkGD x 3 sizes x 3 budgets, three seeds."""
  quickstart = configure.load_module("configs/sweeps/quickstart.py")
  return space.Sweep(
    methods=[
      quickstart.adamw(3e-3),
      # What Muon leaves to AdamW has AdamW's rate: none is tuned for one alone.
      quickstart.muon(0.02) | {"optimizer.fallback_learning_rate": 3e-3},
      quickstart.sinkgd(0.04),
    ],
    seeds=(1, 2) if arg else (1, 2, 3),
    tune=space.Tune(
      {"optimizer.learning_rate": (0.5, 1.0, 2.0)},
      relative=True,
      max_extensions=0 if arg else 1,
    ),
    ladder=space.Ladder(
      sizes={
        "32": size(32, 1),
        "64": size(64, 1 if arg else 2),
        "128": size(128, 1 if arg else 4),
      },
      budgets=(4, 8, 16) if arg else BUDGETS,
      baseline_budgets=(48,) if arg else BASELINE_BUDGETS,
      transfer={"adamw": "constant", "muon": "constant", "sinkgd": "width"},
    ),
  )
