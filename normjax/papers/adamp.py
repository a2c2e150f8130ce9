"""Rates and decays of arXiv:2006.08217, which its two ImageNet tables share.

Of the Adams as the authors say (clovaai/AdamP, issue 10; PyTorch's convention
of decoupled decay is ours, too), of SGDP as the README's example. All
parameters decay. Nothing is tuned.
"""

from collections.abc import Mapping
from typing import Any

# By name: the settings, and the decay where there is one.
OPTIMIZERS: Mapping[str, tuple[Mapping[str, Any], float]] = {
  "SGD": (
    {
      "optimizer.name": "sgd",
      "optimizer.nesterov": True,
      "optimizer.learning_rate": 0.1,
    },
    1e-4,
  ),
  # Decoupled, over 1 - momentum: as much as SGD's coupled 1e-4.
  "SGDP": ({"optimizer.name": "sgdp", "optimizer.learning_rate": 0.1}, 1e-5),
  "Adam": ({"optimizer.name": "adamw", "optimizer.learning_rate": 1e-3}, 0.1),
  "AdamP": ({"optimizer.name": "adamp", "optimizer.learning_rate": 1e-3}, 0.1),
}


def method(name: str, *, decays: bool = True) -> dict[str, Any]:
  """What a run with an optimizer sets."""
  settings, decay = OPTIMIZERS[name]
  return {
    **settings,
    "optimizer.weight_decay": decay if decays else 0.0,
    "optimizer.mask": "all",
  }
