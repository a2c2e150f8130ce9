"""Trials never see what the final runs are reported on."""

import ml_collections
import pytest

from normjax import errors
from normjax.data import folds
from normjax.sweep import Sweep, Tune, plan

RATES = {"toy.lr": [0.1, 1.0]}


def make_plan(data, split="validation", **tune):
  config = ml_collections.ConfigDict(
    {
      "seed": 0,
      "toy": {"lr": 0.1},
      "data": data,
      "evaluate": {"split": split},
    }
  )
  tune = Tune(RATES, second_pass=False, **tune)
  sweep = Sweep([{}], seeds=(0, 1, 2), tune=tune)
  made = plan.plan(sweep, config, {}, program_key=lambda config: "p")
  return made.points


@pytest.mark.parametrize(
  ("options", "asked", "expected"),
  [
    ({"tuning_split": True}, "validation", "tuning"),
    ({"tuning_split": True}, "test", "tuning"),
    ({"tuning_split": False}, "validation", "validation"),
    # The test split of a set that keeps none to tune on.
    ({"tuning_split": False}, "test", "validation"),
  ],
)
def test_no_choice_is_made_on_the_test_split(options, asked, expected):
  points = make_plan({"name": "digits", **options}, asked)
  splits = {p.config["evaluate"].get("split", "validation") for p in points}
  assert splits == {expected}


def test_trials_of_cross_validation_have_the_fold_of_their_final_run():
  iris = {"name": "iris", "num_folds": 3}
  for point in make_plan(iris):
    fold, final = (
      folds.of_seed(seed, 3) for seed in (point.seed, point.for_seed)
    )
    assert fold == final
  with pytest.raises(
    errors.UserError,
    match=r"seed 31 has another fold .* seed 0: .* fits: 33; .* it is 1000",
  ):
    make_plan(iris, seeds=(31, 34, 35))
  assert make_plan(iris, seeds=(33, 34, 35))
  assert make_plan(iris | {"num_folds": 0}, seeds=(31, 34, 35))


def test_trials_are_scored_on_data_of_their_own():
  base = ml_collections.ConfigDict(
    {
      "seed": 0,
      "optimizer": {"name": "toy", "lr": 0.1},
      "data": {"name": "toy", "tuning_fraction": 0.1},
      "evaluate": {"split": "validation"},
    }
  )
  sweep = Sweep(
    [{}, {"data.tuning_fraction": 0.0}], seeds=(0, 1), labels=["own", "none"],
    tune=Tune(
      {"optimizer.lr": [0.01, 0.1, 1.0]}, second_pass=False, max_extensions=0
    ),
  )  # fmt: skip
  results = {}
  for _ in range(2):
    made = plan.plan(sweep, base, results, program_key=lambda config: "p")
    results = {
      p.run_id: {"state": "done", "metrics": {"eval/loss": 1.0}}
      for p in made.points
    }
  splits = {
    (p.method, p.stage, p.config["evaluate"].get("split", "validation"))
    for p in made.points
  }
  # Where the data keeps no such part, a trial is scored as a final run is.
  assert splits == {
    ("own", "tune", "tuning"), ("own", "final", "validation"),
    ("none", "tune", "validation"), ("none", "final", "validation"),
  }  # fmt: skip


def test_a_final_run_stands_in_where_it_is_evaluated_elsewhere():
  base = ml_collections.ConfigDict(
    {
      "seed": 0,
      "optimizer": {"name": "toy", "lr": 0.1},
      "data": {"name": "toy", "tuning_fraction": 0.1},
      "evaluate": {"split": "test"},
    }
  )
  sweep = Sweep(
    [{}, {"data.tuning_fraction": 0.0}], seeds=(0, 1), labels=["own", "none"],
    tune=Tune({"optimizer.lr": [0.01, 0.1, 1.0]}),
  )  # fmt: skip
  made = plan.plan(sweep, base, {}, program_key=lambda config: "p")
  assert list(made.standins) == ["own", "none"]  # No trial reads the test set.
  for own in made.standins.values():
    assert (own.stage, own.config["evaluate"]["split"]) == ("final", "test")
