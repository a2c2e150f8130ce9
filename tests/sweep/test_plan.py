"""A plan is a pure function of a sweep and its results."""

import json

import pytest

from normjax import configure, errors
from normjax.sweep import Sweep, plan
from tests.sweep.plans import (
  BASE,
  METHODS,
  distance,
  make_plan,
  run_all,
  tuned_sweep,
)


def test_without_tuning_every_method_has_every_seed():
  made = make_plan(Sweep(METHODS, seeds=(3, 4)))
  assert [(p.method, p.seed, p.stage, p.program) for p in made.points] == [
    ("a", 3, "final", "a"),
    ("a", 4, "final", "a"),
    ("b", 3, "final", "b"),
    ("b", 4, "final", "b"),
  ]
  assert made.trials_per_method == 0
  assert made.num_points == 4
  assert made.baseline == "a"
  assert all(not method.choices for method in made.methods)
  assert (made.tunings, made.search) == ((), None)


def test_a_run_id_is_the_hash_of_the_resolved_config():
  point = make_plan(Sweep(METHODS)).points[-1]
  config = configure.override(BASE, {"toy.name": "b", "seed": 2})
  assert point.run_id == configure.run_id(config)
  assert point.config == configure.to_dict(config)


def test_plan_is_pure():
  sweep = tuned_sweep()
  made, _, results = run_all(sweep, distance({"a": 10.0, "b": 0.01}))
  before = json.dumps(results, sort_keys=True)
  # Whatever the order in which results came, the plan is the same.
  again = make_plan(sweep, dict(reversed(results.items())))
  assert again == made
  assert json.dumps(results, sort_keys=True) == before


def test_known_programs_are_not_asked_for():
  programs = {p.run_id: "known" for p in make_plan(Sweep(METHODS)).points}

  def program_key(config):
    raise AssertionError(config)

  made = make_plan(Sweep(METHODS), programs=programs, program_key=program_key)
  assert {p.program for p in made.points} == {"known"}


def test_bad_overrides_are_named_before_anything_runs():
  with pytest.raises(errors.ConfigError, match="unknown config key 'toy.nam'"):
    make_plan(Sweep([{"toy.nam": 1}]))


def sweep_id(sweep, config=BASE):
  return plan.Comparison(sweep, config).sweep_id


def test_sweep_id_is_that_of_what_decides_the_runs():
  sweep = tuned_sweep()
  same = Sweep(**{**vars(tuned_sweep()), "baseline": "y", "labels": ["x", "y"]})
  assert sweep_id(sweep) == sweep_id(same)
  others = [
    tuned_sweep(seeds=(101,)),
    tuned_sweep(second_pass=True),
    tuned_sweep(repeat="per_seed", seeds=(100, 101)),
    Sweep(METHODS, seeds=(0, 1)),
    Sweep(METHODS[:1], seeds=(0, 1), tune=sweep.tune),
  ]
  ids = [sweep_id(other) for other in (sweep, *others)]
  assert len(set(ids)) == len(ids)
  changed = configure.override(BASE, {"optimizer.b1": 0.8})
  assert sweep_id(sweep, changed) != ids[0]


def test_what_divergence_is_changes_the_report_alone():
  """It is in plan.json, and in no id."""
  plain, worst = (
    make_plan(Sweep(methods=METHODS, divergence=word))
    for word in ("verdict", "worst")
  )
  assert (plain.divergence, worst.divergence) == ("verdict", "worst")
  assert plain.sweep_id == worst.sweep_id
  assert [p.run_id for p in plain.points] == [p.run_id for p in worst.points]
  assert make_plan(Sweep(methods=METHODS)) == plain


def test_how_fast_data_comes_is_no_other_sweep():
  """Neither its name nor its runs' change: a sweep goes on with others."""
  config = configure.load("configs/default.py")
  config = configure.override(config, {"data.name": "c4"})
  fast = {"data.threads": 4, "data.workers": 2, "data.token_cache": True}
  faster = configure.override(config, fast)
  sweep = Sweep([{"norm.name": "layer_norm"}], seeds=(0,))
  made = [
    plan.Comparison(sweep, each, lambda config: config.norm.name)
    for each in (config, faster)
  ]
  assert made[0].sweep_id == made[1].sweep_id
  (one,), (other,) = (each.plan({}).points for each in made)
  assert one.run_id == other.run_id
  assert other.config["data"]["threads"] == 4
