"""A toy sweep, its plan, and results made up by a loss."""

import math

import ml_collections

from normjax.sweep import Sweep, Tune, grid, plan

BASE = ml_collections.ConfigDict(
  {
    "seed": 0,
    "optimizer": {"name": "toy", "lr": 0.1, "b1": 0.9},
    "toy": {"name": "a"},
  }
)
RATES = [0.01, 0.1, 1.0]
METHODS = grid("toy.name", ["a", "b"])


def make_plan(sweep, results=None, **options):
  options.setdefault("program_key", lambda config: config.toy.name)
  return plan.plan(sweep, BASE, results or {}, **options)


def run_all(sweep, loss, results=None):
  """Runs whatever the plan knows until it knows no more; counts the stages.

  `loss(point)` is a number, "diverged" or "failed".
  """
  results = dict(results or {})
  stages = 0
  while True:
    made = make_plan(sweep, results)
    todo = [p for p in made.points if p.run_id not in results]
    if not todo:
      return made, stages, results
    stages += 1
    for point in todo:
      value = loss(point)
      if isinstance(value, str):
        results[point.run_id] = {"state": value, "metrics": {}}
      else:
        results[point.run_id] = {
          "state": "done",
          "metrics": {sweep.metric: value},
        }


def distance(optimum):
  """A loss with its optimum at a learning rate, by method."""
  return lambda point: abs(
    math.log10(point.overrides["optimizer.lr"] / optimum[point.method])
  )


def tuned_sweep(**options):
  """Shared by the final seeds, one pass: what all searches have in common."""
  tune = {
    "repeat": "shared", "seeds": (100,), "second_pass": False, **options,
  }  # fmt: skip
  return Sweep(
    METHODS, seeds=(0, 1), tune=Tune({"optimizer.lr": RATES}, **tune)
  )


def per_seed(best, **options):
  """A plan of repeated tuning whose optimum is another for each final seed."""
  tune = Tune({"optimizer.lr": RATES}, **options)
  sweep = Sweep(METHODS, seeds=(0, 1), tune=tune)
  by_seed = {s: best[t.for_seed] for t in sweep.tunings for s in t.seeds}

  def loss(point):
    rate = point.overrides["optimizer.lr"]
    return abs(math.log10(rate / by_seed.get(point.seed, 0.1)))

  return sweep, loss
