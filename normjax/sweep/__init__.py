"""Sweeps: which runs a comparison needs, and running them all.

A config file defines `sweep()` beside `get_config()`:

    from normjax.sweep import Sweep, Tune, grid, log_grid, product

    def sweep():
      return Sweep(
        methods=product(
          grid("norm.name", ["layer_norm", "rms_norm"]),
          grid("optimizer.name", ["adamw", "muon"]),
        ),
        seeds=(0, 1, 2),
        tune=Tune({"optimizer.learning_rate": log_grid(1e-4, 1e-2, 5)}),
      )

or a plain list of override dicts, as in `grid("seed", range(3))`. Nothing
here imports jax: config files import this package, and a finished sweep is
recognised from its files alone.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from normjax.sweep.costs import Costs
from normjax.sweep.ladder import Ladder
from normjax.sweep.space import (
  chain,
  grid,
  log_grid,
  point,
  product,
  words,
  zip_,
)
from normjax.sweep.spec import Sweep, Tune

__all__ = [
  "Costs",
  "Ladder",
  "Sweep",
  "Tune",
  "chain",
  "grid",
  "log_grid",
  "point",
  "product",
  "run_sweep",
  "words",
  "zip_",
]


def run_sweep(
  config_path: str | Path,
  out: str | Path,
  *,
  overrides: Mapping[str, Any] | None = None,
  workers: int | None = None,
  retries: int = 1,
  dry_run: bool = False,
  accept_code_change: bool = False,
  compiles: bool = True,
  runner: str = "normjax.train:run",
  executor: Any = "local",
  methods: str | None = None,
  seeds: Iterable[int] | None = None,
  population: str | int | None = None,
  workers_per_gpu: int | None = None,
) -> Any:
  """Runs, or resumes, the sweep of a config file; see `sweep.api`."""
  from normjax.sweep import api

  return api.run_sweep(
    config_path,
    out,
    overrides=overrides,
    workers=workers,
    retries=retries,
    dry_run=dry_run,
    accept_code_change=accept_code_change,
    compiles=compiles,
    runner=runner,
    executor=executor,
    methods=methods,
    seeds=seeds,
    population=population,
    workers_per_gpu=workers_per_gpu,
  )
