"""The quick start's nine pairs, each with its learning rate tuned.

Claim: none; the same question under equal tuning budgets and five seeds.
Command: normjax sweep configs/sweeps/tuned.py
Time: about 10 minutes on two cores, compilation included.

Every pair tries three learning rates, a factor 2 apart, around the quick
start's; where the best lies on an edge all grids grow by a notch, twice at
most. Muon's fallback rate for embeddings, head and gains stays fixed.
"""

import ml_collections

from normjax import configure
from normjax import sweep as space


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The quick start's."""
  return configure.load(f"configs/sweeps/quickstart.py:{arg}")


def sweep() -> space.Sweep:
  """Nine methods, tuned with one seed, compared with five others."""
  quickstart = configure.load_module("configs/sweeps/quickstart.py")
  return space.Sweep(
    methods=quickstart.methods(),
    seeds=(1, 2, 3, 4, 5),
    tune=space.Tune(
      {"optimizer.learning_rate": (0.5, 1.0, 2.0)}, relative=True
    ),
  )
