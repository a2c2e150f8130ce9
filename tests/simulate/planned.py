"""Simulated sweeps, driven through the planner and the report's statistics."""

import math
from collections.abc import Callable
from pathlib import Path

import ml_collections
import numpy as np

from normjax.record.directory import RunState
from normjax.report import stats
from normjax.report.load import Run, SweepRecord
from normjax.simulate import Protocol, Surface, runs
from normjax.simulate import protocol as protocol_lib
from normjax.simulate.surface import PAIRED_SD
from normjax.sweep import Sweep, Tune, grid, plan

RATE = "optimizer.learning_rate"
CONFIG = ml_collections.ConfigDict(
  {
    "seed": 0,
    "optimizer": {"name": "toy", "learning_rate": 1.0},
    "toy": {"name": "0"},
  }
)


class Planned:
  """One sweep, to be run with any losses: a plan depends on results alone."""

  def __init__(self, protocol: Protocol):
    self.protocol = protocol
    tune = None
    if protocol.tuning != protocol_lib.NONE:
      seeds = None
      if protocol.tuning == protocol_lib.SHARED:
        seeds = tuple(1000 + t for t in range(protocol.tuning_seeds))
      middle = (protocol.values - 1) / 2
      rates = [
        protocol.factor ** (index - middle) for index in range(protocol.values)
      ]
      tune = Tune(
        {RATE: rates},
        seeds=seeds,
        max_extensions=protocol.max_extensions,
        repeat=protocol.tuning,
        second_pass=protocol.second_pass,
      )
    self.sweep = Sweep(
      grid("toy.name", [str(m) for m in range(protocol.methods)]),
      seeds=tuple(range(protocol.seeds)),
      tune=tune,
    )
    self.comparison = plan.Comparison(self.sweep, CONFIG, lambda config: "p")

  def notch(self, point: plan.Point) -> float:
    """A point's rate, in half notches from the grid's centre.

    The planner rounds rates to two digits.
    """
    rate = point.overrides.get(RATE, 1.0)
    return round(2 * math.log(rate) / math.log(self.protocol.factor)) / 2

  def run(self, loss: Callable[[plan.Point], float]) -> plan.Plan:
    """Runs what the planner asks for, until it asks for no more."""
    results = {}
    while True:
      made = self.comparison.plan(results)
      todo = [p for p in made.points if p.run_id not in results]
      if not todo:
        self.results = results
        return made
      for point in todo:
        metrics = {"eval/loss": loss(point)}
        results[point.run_id] = {"state": "done", "metrics": metrics}

  def rows(self, made: plan.Plan) -> tuple[stats.Row, ...]:
    """The report's, of the last run."""
    ended = tuple(
      Run(
        run_id=point.run_id,
        stage=point.stage,
        method=point.method,
        overrides=point.overrides,
        seed=point.seed,
        for_seed=point.for_seed,
        state=RunState.DONE,
        result=self.results[point.run_id],
      )
      for point in made.points
    )
    return stats.summarize(
      SweepRecord(
        directory=Path(),
        sweep_id=made.sweep_id,
        config_file="",
        config=made.config,
        metric=made.metric,
        mode=made.mode,
        baseline=made.baseline,
        tuned_keys=made.tuned,
        trials_per_method=made.trials_per_method,
        methods=made.methods,
        tunings=made.tunings,
        search=made.search,
        runs=ended,
      )
    )


def verdicts(
  protocol: Protocol,
  sweeps: int,
  *,
  better: int = 0,
  effect: float = 1.0,
  seed: int = 0,
) -> list[tuple[str, ...]]:
  """Of each sweep, the corrected verdicts of all methods but the baseline."""
  planned = Planned(protocol)
  surface = Surface()
  random = np.random.default_rng(seed)
  level = np.zeros(protocol.methods)
  level[1 : 1 + better] = -effect * PAIRED_SD
  told = []
  for _ in range(sweeps):
    valleys = runs.draw_valleys(protocol, surface, 1, random)
    shared = {}

    def loss(point, valleys=valleys, shared=shared):
      method = int(point.overrides["toy.name"])
      if point.seed not in shared:
        shared[point.seed] = surface.shared_sd * random.standard_normal()
      penalty = 0.0
      if protocol.tuning != protocol_lib.NONE:
        penalty = valleys.penalty(planned.notch(point))[0, 0, method]
      noise = shared[point.seed] + random.standard_normal()
      return level[method] + penalty + noise

    rows = planned.rows(planned.run(loss))
    told.append(tuple(row.verdict for row in rows[1:]))
  return told
