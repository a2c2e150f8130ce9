"""plan.json, as reports read it."""

import functools
import json

import pytest

from normjax.record import comparison, directory, schema
from normjax.sweep import plan
from tests.sweep.plans import (
  distance,
  run_all,
  tuned_sweep,
)


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
