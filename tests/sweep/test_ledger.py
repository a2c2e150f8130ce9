"""What a sweep reads of its runs, and how often."""

import contextlib
import json
import math

import ml_collections
import pytest

from normjax import errors
from normjax.record.directory import RunState, SweepDirectory
from normjax.sweep import Sweep, grid, tuner
from normjax.sweep.ledger import Ledger
from normjax.sweep.planner import Planner


@pytest.fixture
def sweep(tmp_path):
  return SweepDirectory(tmp_path)


def end(sweep, run_id, state=RunState.DONE):
  sweep.run(run_id).write_result(state, steps=4, metrics={"eval/loss": 1.0})


def test_a_result_is_read_once_and_what_is_not_over_each_time(sweep):
  ledger = Ledger(sweep)
  end(sweep, "a")
  assert ledger.get("a")["metrics"] == {"eval/loss": 1.0}
  assert ledger.get("b") is None
  end(sweep, "b")
  (sweep.run("a").path / "result.json").unlink()
  assert ledger.get("b") is None
  ledger.refresh()
  assert ledger.get("b") is not None
  assert ledger.get("a") is not None


def test_a_run_that_is_given_up_has_no_result(sweep):
  ledger = Ledger(sweep)
  ledger.refresh(failed=["a", "b"])
  end(sweep, "b", RunState.DIVERGED)
  assert ledger.get("a") == {"state": "failed"}
  assert ledger.get("b")["state"] == "diverged"
  assert ledger.get("c") is None


def test_attempts_and_notes(sweep):
  with sweep.open_attempts() as attempts:
    attempts.add("a", RunState.FAILED, message="first")
    attempts.add("a", RunState.FAILED, message="second")
  (sweep.run("a").path).mkdir(parents=True)
  (sweep.run("a").path / "result.json").write_text("{")
  ledger = Ledger(sweep)
  record = ledger.record("a")
  assert (record.state, record.failures) == (RunState.FAILED, 2)
  assert record.message == "second"
  (note,) = ledger.notes([record])
  assert "a/result.json is not valid JSON" in note
  assert note.endswith("; the point runs again")
  (sweep.out / "attempts.jsonl").write_text(json.dumps({"run_id": "a"}))
  ledger.refresh()
  assert (
    "attempts.jsonl:1 is no attempt" in ledger.notes([ledger.record("a")])[0]
  )


def plan_of(out):
  config = ml_collections.ConfigDict({"seed": 0, "toy": {"name": "a"}})
  methods = grid("toy.name", ["a", "b"])
  sweep = Sweep(methods, seeds=(0, 1))
  return Planner(sweep, config, "c.py", out, lambda config: config.toy.name)


def test_a_sweep_refuses_what_a_newer_version_has_begun(tmp_path):
  planner = plan_of(tmp_path)
  point = planner.plan({}).plan.points[2]
  run = SweepDirectory(tmp_path).run(point.run_id)
  run.write_result(RunState.DONE, steps=4, metrics={})
  path = run.path / "result.json"
  path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 2}))
  with pytest.raises(errors.RunError, match="result.json has schema 2"):
    planner.plan({})
  (tmp_path / "plan.json").write_text('{"schema": 2}')
  with pytest.raises(errors.RunError, match="plan.json has schema 2"):
    planner.claim()
  assert (tmp_path / "plan.json").read_text() == '{"schema": 2}'


def test_a_plan_that_is_not_whole_is_made_anew(tmp_path):
  planner = plan_of(tmp_path)
  planner.write(planner.plan({}).plan)
  whole = (tmp_path / "plan.json").read_text()
  for points in (3, None, [1], [{}]):
    (tmp_path / "plan.json").write_text(
      json.dumps(json.loads(whole) | {"points": points})
    )
    assert planner.claim().endswith("; made anew from the config")
    planner.write(planner.plan({}).plan)
    assert (tmp_path / "plan.json").read_text() == whole


def test_another_sweep_is_named_with_this_one(tmp_path):
  planner = plan_of(tmp_path)
  planner.write(planner.plan({}).plan)
  other = json.loads((tmp_path / "plan.json").read_text())
  other |= {"sweep_id": "aaa", "config_file": "one.py", "metric": "eval/x"}
  (tmp_path / "plan.json").write_text(json.dumps(other))
  said = r"aaa of one.py; this is sweep .* of c.py: metric was 'eval/x', is"
  with pytest.raises(errors.RunError, match=said):
    planner.claim()


def test_those_begun_come_first(tmp_path):
  planner = plan_of(tmp_path)
  points = planner.plan({}).plan.points
  sweep = SweepDirectory(tmp_path)
  sweep.run(points[0].run_id).write_result(RunState.DONE, steps=4, metrics={})
  sweep.run(points[2].run_id).write_status(RunState.INTERRUPTED, step=2)
  state = planner.plan({})
  left = [points[2], points[1], points[3]]
  assert [p.run_id for p in state.left()] == [p.run_id for p in left]
  assert state.num_over() == 1


def test_a_target_is_a_metric_of_the_results(tmp_path):
  directory = SweepDirectory(tmp_path)
  run = directory.run("a1")
  run.write_result(RunState.DONE, steps=9, metrics={"eval/loss": 1.0})
  with contextlib.closing(run.open_metrics(lambda row: True)) as file:
    for step, loss in ((0, 3.0), (5, 1.5), (9, 1.0)):
      file.append({"step": step, "kind": "eval", "time_s": 0.0, "loss": loss})
  names = ("steps_to(eval/loss<=2)", "steps_to(eval/loss<=0.5)")
  found = [Ledger(directory, name).get("a1")["metrics"][name] for name in names]
  assert found == [5, None]
  # One that is never reached loses to all others, as one that diverged.
  never = Sweep(methods=[{}], metric=names[1])
  assert tuner.score(never, Ledger(directory, names[1]).get("a1")) == math.inf
