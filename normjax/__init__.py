"""normjax: does this normalization, or this normalized optimizer, help?

Three ways in: launch a sweep (`normjax sweep CONFIG`), import the parts
(`normjax.norms`, `normjax.optim`, `kernels_pallas`), reproduce a table.
What a sweep leaves is opened by `load_run` and `load_sweep`.

Importing `normjax` itself imports nothing heavy: its parts come when they are
asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from normjax import (
    adapt,
    build,
    configure,
    context,
    continual,
    convert,
    data,
    metrics,
    models,
    nn,
    norms,
    objectives,
    optim,
    papers,
    probe,
    report,
    reproduce,
    runs,
    similarity,
    spectra,
    sweep,
    train,
  )
  from normjax.runs.run import Run, load_run
  from normjax.runs.sweep import SweepRuns, load_sweep

__version__ = "0.1.0"

# Name to the module that it is (no colon), or that holds it.
_LAZY = {
  **{
    name: f"normjax.{name}"
    for name in (
      *("adapt", "build", "configure", "context", "continual", "convert"),
      *("data", "metrics", "models", "nn", "norms", "objectives", "optim"),
      *("papers", "probe", "report", "reproduce", "runs", "similarity"),
      *("spectra", "sweep", "train"),
    )
  },
  "Run": "normjax.runs.run:Run",
  "SweepRuns": "normjax.runs.sweep:SweepRuns",
  "load_run": "normjax.runs.run:load_run",
  "load_sweep": "normjax.runs.sweep:load_sweep",
}

__all__ = [
  "Run",
  "SweepRuns",
  "adapt",
  "build",
  "configure",
  "context",
  "continual",
  "convert",
  "data",
  "load_run",
  "load_sweep",
  "metrics",
  "models",
  "nn",
  "norms",
  "objectives",
  "optim",
  "papers",
  "probe",
  "report",
  "reproduce",
  "runs",
  "similarity",
  "spectra",
  "sweep",
  "train",
]


def __getattr__(name: str) -> Any:
  """Imports a part when it is first asked for (PEP 562)."""
  if name not in _LAZY:
    raise AttributeError(f"module 'normjax' has no attribute {name!r}")
  module, _, attribute = _LAZY[name].partition(":")
  found = importlib.import_module(module)
  return getattr(found, attribute) if attribute else found


def __dir__() -> list[str]:
  """With what is not imported yet."""
  return sorted({*globals(), *_LAZY})
