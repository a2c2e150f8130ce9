"""Which trials a plan has, and what they choose."""

import math

import pytest

from normjax import errors
from normjax.sweep import Sweep, Tune
from tests.sweep.plans import (
  METHODS,
  RATES,
  distance,
  make_plan,
  run_all,
  tuned_sweep,
)


def test_final_runs_are_unknown_until_every_trial_is_over():
  sweep = tuned_sweep()
  first = make_plan(sweep)
  assert {p.stage for p in first.points} == {"tune"}
  assert (len(first.points), first.num_points) == (6, 10)
  results = {
    p.run_id: {"state": "done", "metrics": {"eval/loss": 1.0}}
    for p in first.points[:-1]
  }
  assert make_plan(sweep, results).points == first.points


def test_final_runs_take_the_best_value_and_paired_other_seeds():
  made, stages, _ = run_all(tuned_sweep(), distance({"a": 0.1, "b": 0.1}))
  assert stages == 2
  assert [m.tuned_for(1) for m in made.methods] == [{"optimizer.lr": 0.1}] * 2
  assert not any(m.on_edge for m in made.methods)
  finals = [p for p in made.points if p.stage == "final"]
  assert [(p.method, p.seed) for p in finals] == [
    ("a", 0), ("a", 1), ("b", 0), ("b", 1),
  ]  # fmt: skip
  assert {p.seed for p in made.points if p.stage == "tune"} == {100}
  assert made.trials_per_method == 3


def test_a_best_on_the_edge_grows_every_grid_alike():
  made, stages, _ = run_all(tuned_sweep(), distance({"a": 10.0, "b": 0.1}))
  assert stages == 4  # three values, a fourth, a fifth, final
  assert made.trials_per_method == 5
  assert made.methods[0].tuned_for(0) == {"optimizer.lr": 10.0}
  assert not made.methods[0].on_edge
  counts = {
    label: sum(p.method == label and p.stage == "tune" for p in made.points)
    for label in "ab"
  }
  assert counts == {"a": 5, "b": 5}


def test_what_stays_on_the_edge_is_marked():
  made, _, _ = run_all(tuned_sweep(), distance({"a": 1e6, "b": 0.1}))
  assert made.methods[0].tuned_for(0) == {"optimizer.lr": 100.0}
  assert [m.on_edge for m in made.methods] == [True, False]
  assert made.trials_per_method == 5


def test_without_extensions_the_edge_is_marked_at_once():
  made, stages, _ = run_all(
    tuned_sweep(max_extensions=0), distance({"a": 1.0, "b": 0.1})
  )
  assert stages == 2
  assert [m.on_edge for m in made.methods] == [True, False]


def test_two_axes_keep_methods_level():
  sweep = Sweep(
    METHODS,
    seeds=(0,),
    tune=Tune(
      {"optimizer.lr": RATES, "optimizer.b1": [0.5, 0.7, 0.9]},
      second_pass=False,
    ),
  )

  def loss(point):
    best = {"a": 1.0, "b": 0.1}[point.method]
    rate = abs(math.log10(point.overrides["optimizer.lr"] / best))
    return rate + abs(point.overrides["optimizer.b1"] - 0.7)

  made, _, _ = run_all(sweep, loss)
  assert made.trials_per_method == 4 * 3
  assert made.tuned == ("optimizer.lr", "optimizer.b1")
  assert made.methods[0].tuned_for(0) == {
    "optimizer.lr": 1.0,
    "optimizer.b1": 0.7,
  }


def test_a_diverged_trial_is_the_worst_and_an_edge_of_its_own():
  def loss(point):
    return (
      "diverged"
      if point.overrides["optimizer.lr"] == 1.0
      else (-point.overrides["optimizer.lr"])
    )

  made, stages, _ = run_all(tuned_sweep(), loss)
  assert stages == 2
  assert made.methods[0].tuned_for(0) == {"optimizer.lr": 0.1}
  assert not made.methods[0].on_edge


def test_one_diverged_seed_spoils_a_value():
  def loss(point):
    if point.overrides["optimizer.lr"] == 0.1 and point.seed == 101:
      return "diverged"
    return distance({"a": 0.1, "b": 0.1})(point)

  made, _, _ = run_all(tuned_sweep(seeds=(100, 101)), loss)
  assert made.methods[0].tuned_for(0)["optimizer.lr"] != 0.1
  assert made.trials_per_method % 2 == 0


def test_everything_diverged_is_still_a_result():
  made, _, results = run_all(tuned_sweep(), lambda point: "diverged")
  assert all(p.run_id in results for p in made.points)
  # The grid grew towards lower rates, and the lowest is run, and marked.
  assert made.methods[0].tuned_for(0) == {"optimizer.lr": 1e-4}
  assert made.methods[0].on_edge


def test_failed_trials_do_not_stop_the_plan():
  def loss(point):
    if point.method == "b":
      return "failed"
    return distance({"a": 0.1})(point)

  made, stages, _ = run_all(tuned_sweep(), loss)
  assert stages == 2
  assert made.methods[0].tuned_for(0) == {"optimizer.lr": 0.1}
  # Nothing chose a value for it, so that no final run has one.
  assert made.methods[1].choices == ()
  finals = [p for p in made.points if p.stage == "final"]
  assert {point.method for point in finals} == {"a"}
  assert made.num_points == len(made.points) + len(finals)


def test_the_mode_turns_the_order_around():
  sweep = Sweep(
    METHODS, seeds=(0,), metric="eval/accuracy", mode="max",
    tune=Tune({"optimizer.lr": RATES}),
  )  # fmt: skip
  made, _, _ = run_all(
    sweep, lambda point: -distance({"a": 0.1, "b": 0.1})(point)
  )
  assert made.methods[0].tuned_for(0) == {"optimizer.lr": 0.1}


def test_a_metric_that_is_not_there_is_named():
  sweep = Sweep(METHODS, seeds=(0,), metric="eval/acc",
                tune=Tune({"optimizer.lr": RATES}))  # fmt: skip
  results = {
    point.run_id: {"state": "done", "metrics": {"eval/loss": 1.0}}
    for point in make_plan(sweep).points
  }
  with pytest.raises(errors.UserError, match=r"'eval/acc'.*eval/loss"):
    make_plan(sweep, results)
