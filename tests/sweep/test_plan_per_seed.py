"""Tuning that is repeated for each final seed."""

from normjax.sweep import Sweep, Tune
from tests.sweep.plans import (
  METHODS,
  RATES,
  make_plan,
  per_seed,
  run_all,
)


def test_tuning_is_repeated_for_each_final_seed():
  made, stages, _ = run_all(*per_seed({0: 0.1, 1: 0.3}))
  assert stages == 3  # the grid, the second pass, the final runs
  a, _ = made.methods
  # Midpoints are geometric: 0.316 lies between 0.1 and 1.
  assert a.tuned_for(0) == {"optimizer.lr": 0.1}
  assert a.tuned_for(1) == {"optimizer.lr": 0.316}
  assert not a.on_edge
  finals = [p for p in made.points if p.stage == "final"]
  assert {(p.seed, p.tuned["optimizer.lr"]) for p in finals} == {
    (0, 0.1), (1, 0.316),
  }  # fmt: skip
  trials = [p for p in made.points if p.stage == "tune"]
  assert {(p.seed, p.for_seed) for p in trials} == {(1000, 0), (1001, 1)}
  assert [t.trials for t in made.tunings] == [5, 5]
  assert made.trials_per_method == 10


def test_a_dry_run_knows_the_second_pass_that_will_come():
  sweep, _ = per_seed({0: 0.1, 1: 0.3})
  made = make_plan(sweep)
  assert len(made.points) == 2 * 2 * 3
  assert made.num_points == 2 * 2 * 5 + 2 * 2
  assert [(t.trials, t.later) for t in made.tunings] == [(5, 2), (5, 2)]


def test_one_tuning_grows_alone_and_all_methods_with_it():
  made, _, _ = run_all(*per_seed({0: 0.1, 1: 10.0}))
  assert [t.trials for t in made.tunings] == [5, 7]
  counts = {
    (label, seed): sum(
      p.method == label and p.for_seed == seed for p in made.points
    )
    for label in "ab"
    for seed in (0, 1)
  }
  assert counts == {("a", 0): 5, ("b", 0): 5, ("a", 1): 7, ("b", 1): 7}


def test_a_seed_has_its_final_runs_as_soon_as_it_is_tuned():
  sweep, loss = per_seed({0: 0.1, 1: 0.3})
  _, _, results = run_all(sweep, loss)
  rest = {
    p.run_id: results[p.run_id]
    for p in run_all(sweep, loss)[0].points
    if p.for_seed == 0
  }
  made = make_plan(sweep, rest)
  assert [p.seed for p in made.points if p.stage == "final"] == [0, 0]
  assert [m.tuned_for(1) for m in made.methods] == [None, None]


def test_tuning_of_a_seed_is_the_same_with_and_without_other_seeds():
  """Seeds may be added to a sweep; what is there stays."""
  tune = Tune({"optimizer.lr": RATES})
  few, more = (
    {p.run_id for p in run_all(Sweep(METHODS, seeds=s, tune=tune),
                               lambda p: p.overrides["optimizer.lr"])[0].points}
    for s in ((0, 1), (0, 1, 2))
  )  # fmt: skip
  assert few < more
