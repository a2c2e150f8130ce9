"""The protocol of a comparison, as a pure function of results."""

import functools
import json
import math

import ml_collections
import pytest

from normjax import configure, errors
from normjax.record import comparison, directory, schema
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


def test_plan_json_has_the_schema_that_reports_read():
  made, _, _ = run_all(tuned_sweep(), distance({"a": 0.1, "b": 0.1}))
  value = json.loads(json.dumps(plan.to_json(made, "c.py")))
  assert schema.problem(value, schema.PLAN) == ""
  assert set(value) == {
    "sweep_id", "config_file", "config", "metric", "mode",
    "other_metrics", "baseline", "tuned", "trials_per_method", "methods",
    "points", "num_points", "num_seeds", "divergence", "tunings", "search",
    "ladder",
  }  # fmt: skip
  assert value["tuned"] == ["optimizer.lr"]
  assert value["methods"][0] == {
    "label": "a",
    "overrides": {"toy.name": "a"},
    "choices": [
      {"values": {"optimizer.lr": 0.1}, "on_edge": False, "for_seed": None}
    ],
  }
  assert value["tunings"] == [
    {"seeds": [100], "trials": 3, "for_seed": None, "later": 0}
  ]
  assert value["search"] == {
    "name": "grid", "second_pass": False, "max_extensions": 2,
    "num_values": 3, "factor": pytest.approx(10.0),
  }  # fmt: skip
  assert value["points"][-1] == {
    "run_id": made.points[-1].run_id,
    "stage": "final",
    "method": "b",
    "overrides": {"toy.name": "b", "optimizer.lr": 0.1},
    "seed": 1,
    "for_seed": None,
    "program": "b",
  }


def per_seed(best, **options):
  """A plan of repeated tuning whose optimum is another for each final seed."""
  tune = Tune({"optimizer.lr": RATES}, **options)
  sweep = Sweep(METHODS, seeds=(0, 1), tune=tune)
  by_seed = {s: best[t.for_seed] for t in sweep.tunings for s in t.seeds}

  def loss(point):
    rate = point.overrides["optimizer.lr"]
    return abs(math.log10(rate / by_seed.get(point.seed, 0.1)))

  return sweep, loss


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


@pytest.mark.parametrize(
  ("path", "value", "what"),
  [
    (("search",), {"name": "grid"}, "plan.json has search = "),
    (("search", "second_pass"), None, "plan.json has search = "),
    (("search", "max_extensions"), True, "plan.json has search = "),
    (("search", "factor"), "x", "plan.json has search = "),
    (("tunings", 0, "seeds"), [], "plan.json in tunings[0] has seeds = []"),
  ],
)
def test_a_damaged_plan_is_named(tmp_path, path, value, what):
  made, _, _ = run_all(tuned_sweep(), distance({"a": 0.1, "b": 0.1}))
  said = json.loads(json.dumps(plan.to_json(made, "c.py")))
  *blocks, last = path
  functools.reduce(lambda block, key: block[key], blocks, said)[last] = value
  (tmp_path / "plan.json").write_text(json.dumps(said))
  assert what in directory.SweepDirectory(tmp_path).read_plan().problem


def test_what_a_later_version_adds_to_a_plan_is_passed_over():
  made, _, _ = run_all(tuned_sweep(), distance({"a": 0.1, "b": 0.1}))
  said = json.loads(json.dumps(plan.to_json(made, "c.py")))
  said["search"]["new"] = said["methods"][0]["choices"][0]["new"] = 1
  assert comparison.search(said) == made.search
  assert comparison.method(said["methods"][0]) == made.methods[0]
