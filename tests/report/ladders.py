"""Ladders whose speed-ups are known, as records and as folders."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

from normjax.record import rungs
from normjax.record.comparison import Method
from normjax.record.directory import RunState
from normjax.record.rungs import Rung, Rungs
from normjax.report.load import Run, SweepRecord
from tests.report import conftest

SIZES = {"32": 20_000, "64": 80_000, "128": 320_000}
BUDGETS = (100, 200, 400)


def curve(size: str) -> Callable[[float], float]:
  """The baseline's loss over the budget: larger models have lower floors."""
  floor = 1.5 - 0.1 * math.log2(int(size) / 32)
  return lambda budget: floor + 1.2 * (budget / 100) ** -0.4


def label(method: str, size: str, budget: int) -> str:
  return f"{method} @ {size} x {budget} steps"


def record(
  factors: Mapping[str, Callable[[str, int], float]],
  noise: Callable[[str, str, int, int], float] = lambda *_: 0.0,
  *,
  seeds=(1, 2, 3),
  budgets=BUDGETS,
  sizes: Mapping[str, int] = SIZES,
  diverged=(),
  pending=(),
  baseline_budgets=(),
) -> SweepRecord:
  """A ladder in which a method has the baseline's loss at `factor` budgets.

  Args:
    factors: by method, a function of size and budget; the first is the
      baseline.
    noise: of (method, size, budget, seed), added to the loss.
    seeds: of the runs.
    budgets: in steps.
    sizes: label to parameters.
    diverged: (method, size, budget, seed) of runs that did.
    pending: the like of runs that are not over.
    baseline_budgets: further ones, of the baseline alone.
  """
  rows, runs = {}, []
  baseline = next(iter(factors))
  for method, factor in factors.items():
    own = (*budgets, *(baseline_budgets if method == baseline else ()))
    for size, num_params in sizes.items():
      for budget in own:
        row = label(method, size, budget)
        rows[row] = Rung(method, size, budget)
        for seed in seeds:
          loss = curve(size)(budget * factor(size, budget))
          loss += noise(method, size, budget, seed)
          key = (method, size, budget, seed)
          state = RunState.DIVERGED if key in diverged else RunState.DONE
          done = state is RunState.DONE
          result = {
            "metrics": {"eval/loss": loss if done else None},
            "num_params": num_params,
          }
          if key in pending:
            state, result = RunState.PENDING, {}
          runs.append(
            Run("-".join(map(str, key)), "final", row, {}, seed, state,
                result=result)
          )  # fmt: skip
  methods = list(factors)
  middle = list(sizes)[len(sizes) // 2], budgets[len(budgets) // 2]
  return SweepRecord(
    directory=Path("ladder"),
    sweep_id="s",
    config_file="ladder.py",
    config={},
    metric="eval/loss",
    mode="min",
    baseline=label(methods[0], *middle),
    tuned_keys=(),
    trials_per_method=0,
    methods=tuple(Method(row, {}) for row in rows),
    runs=tuple(runs),
    rungs=Rungs(rows, "steps", middle, dict.fromkeys(methods, "as they are")),
  )


def same(size: str, budget: int) -> float:
  del size, budget
  return 1.0


def growing(size: str, budget: int) -> float:
  """The factor 1.2, 1.5, 1.875: times 1.25 with each doubling of the width."""
  del budget
  return 1.2 * 1.25 ** math.log2(int(size) / 32)


def fading(size: str, budget: int) -> float:
  del budget
  return 1.6 * 0.8 ** math.log2(int(size) / 32)


def steady(size: str, budget: int) -> float:
  del size, budget
  return 1.4


def write(out: Path, sweep: SweepRecord) -> Path:
  """The folder of a record's sweep, with as much as a report reads."""
  for run in sweep.runs:
    if not run.result:
      continue
    folder = out / "runs" / run.run_id
    config = conftest.applied({}, run.seed)
    loss = run.result["metrics"]["eval/loss"]
    lost = 5 if loss is None else None
    conftest.write_run(folder, config, loss or 3.0, diverged_at_step=lost)
    path = folder / "result.json"
    said = json.loads(path.read_text())
    conftest.write_json(path, said | {"num_params": run.result["num_params"]})
  plan = {
    "schema": 1, "sweep_id": sweep.sweep_id, "config_file": sweep.config_file,
    "config": conftest.base_config(), "metric": sweep.metric,
    "mode": sweep.mode, "baseline": sweep.baseline, "tuned": [],
    "trials_per_method": 0, "ladder": rungs.to_json(sweep.rungs),
    "methods": [
      {"label": m.label, "overrides": {}, "tuned": None, "on_edge": False}
      for m in sweep.methods
    ],
    "points": [
      {
        "run_id": run.run_id, "stage": "final", "method": run.method,
        "overrides": {}, "seed": run.seed, "program": "p",
      }
      for run in sweep.runs
    ],
  }  # fmt: skip
  conftest.write_json(out / "plan.json", plan)
  return out
