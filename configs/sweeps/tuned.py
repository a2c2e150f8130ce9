"""Norms under three optimizers, each pair with its learning rate tuned.

Claim: none; the quick start's question under equal tuning budgets, 300 steps.
Command: normjax sweep configs/sweeps/tuned.py
Time: not measured since each seed is tuned; `--dry_run` says what runs.

Every pair tries three learning rates, a factor 2 apart, around the same one
for its optimizer; where the best lies on an edge all grids grow by a notch,
twice at most. DyT is there with two alphas. Muon's fallback rate for
embeddings, head and gains stays fixed.
"""

import ml_collections

from normjax import configure
from normjax import sweep as space


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The run that all points share; `:debug` shrinks it."""
  return configure.load(f"configs/default.py{':' if arg else ''}{arg}")


def sweep() -> space.Sweep:
  """Twelve methods, tuned for each of five seeds."""
  quickstart = configure.load_module("configs/sweeps/quickstart.py")
  norms = (
    quickstart.LAYER_NORM,
    quickstart.RMS_NORM,
    quickstart.dyt(alpha_init=1.0),
    quickstart.dyt(alpha_init=16.0),
  )
  optimizers = (
    quickstart.adamw(3e-3),
    quickstart.muon(0.02),
    quickstart.sinkgd(0.04),
  )
  return space.Sweep(
    methods=[norm | optimizer for norm in norms for optimizer in optimizers],
    seeds=(1, 2, 3, 4, 5),
    tune=space.Tune(
      {"optimizer.learning_rate": (0.5, 1.0, 2.0)}, relative=True
    ),
  )
