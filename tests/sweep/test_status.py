"""What another shell is told of a sweep, and of runs that no sweep has."""

import dataclasses
import json
import os
import socket
import subprocess
import time

import pytest

from normjax import cli, errors
from normjax.record import comparison, lease, lock
from normjax.record.directory import RunDirectory, RunState, SweepDirectory
from normjax.sweep import status


@pytest.fixture
def out(tmp_path):
  """A sweep of six runs that are done."""
  points = [_point(method, seed) for method in METHODS for seed in (0, 1)]
  SweepDirectory(tmp_path).write_plan(_plan(points))
  for run in _runs(tmp_path):
    metrics = {"eval/loss": 3.25}
    run.write_result(RunState.DONE, steps=4, metrics=metrics, wall_s=2.0)
  return tmp_path


METHODS = ("a", "bb", "ccc")


def _point(method, seed, stage="final", **overrides):
  return {
    "run_id": f"{method}-{stage}-{seed}", "stage": stage, "method": method,
    "overrides": overrides, "seed": seed, "program": "p",
  }  # fmt: skip


def _plan(points, **changes):
  methods = [
    {"label": label, "overrides": {}, "tuned": None, "on_edge": False}
    for label in METHODS
  ]
  return {
    "sweep_id": "s", "config_file": "c.py", "config": {}, "baseline": "a",
    "metric": "eval/loss", "mode": "min", "tuned": [], "trials_per_method": 0,
    "methods": methods, "points": points, **changes,
  }  # fmt: skip


def _runs(out):
  plan = json.loads((out / "plan.json").read_text())
  return [SweepDirectory(out).run(p["run_id"]) for p in plan["points"]]


def _gone():
  """The lock of a process that is no more."""
  process = subprocess.Popen(["true"])
  process.wait()
  return json.dumps({"pid": process.pid, "host": socket.gethostname()})


def _unmake(run):
  for path in run.path.iterdir():
    path.unlink()


def test_every_run_is_told_with_its_state(out, capsys):
  first, second, third, fourth, *_ = _runs(out)
  for run in (first, second, third, fourth):
    _unmake(run)
  now_s = time.time()
  told = {"step": 3, "num_steps": 9, "loss": 2.5, "eta_s": 60.0}
  first.write_status(RunState.RUNNING, **told, updated_s=now_s - 10)
  told = {"step": 4, "num_steps": 9, "loss": None, "message": "Bad:\nwhy [red]"}
  second.write_status(RunState.FAILED, **told, updated_s=now_s)
  third.write_status(RunState.RUNNING, updated_s=now_s - 10)
  (third.path / "result.json").write_text("{half")
  with SweepDirectory(out).open_attempts() as attempts:
    attempts.add(second.run_id, RunState.FAILED, message="earlier")
    attempts.add(third.run_id, RunState.INTERRUPTED)
  before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
  assert cli.main(["status", str(out)]) == 0
  said = capsys.readouterr().out.splitlines()
  assert said[0].split()[:5] == ["state", "step", "loss", "eval/loss", "ETA"]
  assert said[1].split()[:6] == ["running", "3/9", "2.5", "-", "50", "s"]
  assert said[2].split()[:3] == ["failed", "4/9", "-"]
  assert said[2].endswith("a seed 1: why [red]")
  assert said[3].startswith("interrupted")
  assert said[4].startswith("pending")
  assert said[5].split()[:4] == ["done", "4", "-", "3.25"]
  assert "result.json is not valid JSON" in said[-2]
  assert said[-1].startswith(
    "6 runs: 1 running, 1 failed, 1 interrupted, 2 done, 1 pending; ETA"
  )
  assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*")}


def test_what_is_over_is_read_once_and_the_rest_each_time(out):
  first = _runs(out)[0]
  kept = (first.path / "result.json").read_bytes()
  _unmake(first)
  (out / lock.NAME).write_text(_gone())
  watch = status.Watch(out)
  assert not watch.read().over
  assert watch.read().summary() == (
    "6 runs: 5 done, 1 pending; no process works here now"
  )
  (first.path / "result.json").write_bytes(kept)
  for run in _runs(out)[1:]:
    _unmake(run)
  assert watch.read().summary() == "6 runs: 6 done; all are over"


def test_a_screen_shows_first_what_needs_eyes(out):
  last = _runs(out)[-1]
  _unmake(last)
  last.write_status(RunState.RUNNING, step=1)
  rows = list(status.Watch(out).read().rows(most=2))
  assert rows[1].startswith("running")
  assert rows[2].startswith("done")
  assert rows[3] == "… and 4 more"


def test_a_run_that_is_silent_says_so(out):
  first = _runs(out)[0]
  _unmake(first)
  first.write_status(RunState.RUNNING, updated_s=time.time() - 900)
  assert "silent for 15 min" in "\n".join(status.Watch(out).read().rows())


def test_final_runs_that_tuning_decides_are_counted(tmp_path):
  points = [_point(m, 9, "tune", **{"b.rate": 0.1}) for m in METHODS]
  plan = _plan(points, tuned=["b.rate"], num_points=9)
  SweepDirectory(tmp_path).write_plan(plan)
  found = status.Watch(tmp_path).read()
  assert found.summary() == "9 runs: 3 pending, 6 follow the tuning"
  assert not found.over
  assert "a rate=0.1 seed 9 (tune)" in "\n".join(found.rows())


def test_single_runs(tmp_path, capsys):
  for name in ("one", "two"):
    run = RunDirectory(tmp_path / name, name)
    run.write_run(config={"seed": 0})
    run.write_status(RunState.RUNNING, step=2, num_steps=4, loss=1.0)
  RunDirectory(tmp_path / "two", "two").write_result(
    RunState.DIVERGED, steps=3, metrics={}, diverged_at_step=3
  )
  assert cli.main(["status", str(tmp_path / "one")]) == 0
  assert "running  2/4" in capsys.readouterr().out
  assert cli.main(["status", str(tmp_path)]) == 0
  said = capsys.readouterr().out
  assert "diverged  3" in said
  assert "2 runs: 1 running, 1 diverged" in said


def test_runs_are_told_by_what_they_are_compared_by(tmp_path, capsys):
  """As streams of adaptation are: their report has the accuracy too."""
  compared = comparison.Measure("eval/accuracy", "max", ("eval/loss",))
  for name, accuracy in (("tent", 0.25), ("source", 0.75)):
    run = RunDirectory(tmp_path / name, name)
    said = {comparison.MEASURE: compared.to_json()}
    run.write_run(config={"seed": 0, "norm": name}, **said)
    metrics = {"eval/accuracy": accuracy, "eval/loss": 3.5}
    run.write_result(RunState.DONE, steps=2, metrics=metrics)
  assert cli.main(["status", str(tmp_path)]) == 0
  header, *rows = capsys.readouterr().out.splitlines()
  assert header.split()[:4] == ["state", "step", "loss", "eval/accuracy"]
  assert [row.split()[3] for row in rows[:2]] == ["0.75", "0.25"]
  # Beside a run that is compared by its loss, that is what all have.
  plain = RunDirectory(tmp_path / "zzz", "zzz")
  plain.write_run(config={"seed": 0})
  assert status.Watch(tmp_path).read().metric == "eval/loss"


@pytest.mark.parametrize("name", ["empty", "nowhere"])
def test_what_is_neither_is_refused(tmp_path, capsys, name):
  (tmp_path / "empty").mkdir()
  assert cli.main(["status", str(tmp_path / name)]) == 2
  assert "has no plan.json and no runs" in capsys.readouterr().err


def test_a_damaged_plan_is_refused(tmp_path):
  (tmp_path / "plan.json").write_text("{")
  with pytest.raises(errors.RunError, match="`normjax sweep` makes it anew"):
    status.Watch(tmp_path).read()


def test_a_pipe_gets_a_line_where_something_changed(out, capsys, monkeypatch):
  first = _runs(out)[0]
  kept = (first.path / "result.json").read_bytes()
  _unmake(first)
  looks = []

  def sleep(duration_s):
    looks.append(duration_s)
    if len(looks) == 2:
      (first.path / "result.json").write_bytes(kept)

  monkeypatch.setattr(time, "sleep", sleep)
  assert cli.main(["status", str(out), "--watch"]) == 0
  said = capsys.readouterr().out.splitlines()
  assert len(said) == 2
  assert said[1] == "6 runs: 6 done; all are over"


def test_nobody_is_watched_where_nothing_works(out, capsys):
  _unmake(_runs(out)[0])
  (out / lock.NAME).write_text(_gone())
  assert cli.main(["status", str(out), "--watch"]) == 0
  assert "no process works here now" in capsys.readouterr().out


def test_whose_each_run_is(out):
  """Of launchers that work; of one that was killed nothing is told."""
  first, second, third, *_ = _runs(out)
  for run in (first, second, third):
    _unmake(run)
  with lease.Leases(out) as leases:
    leases.take(first.run_id)
    dead = dataclasses.replace(leases.launcher, token="0" * 16)
    lease._write(out / "leases", second.run_id, 1, dead, lease.Word.HELD)
    leases.take(third.run_id)
    leases.release(third.run_id)
    found = status.Watch(out).read()
    assert not found.abandoned
    header, *rows = found.rows()
  at = header.index("launcher")
  where = f"{socket.gethostname()}:{os.getpid()}"
  assert [row[at:].split()[0] for row in rows] == [where, *"-----"]
  found = status.Watch(out).read()
  assert found.abandoned
  assert "launcher" not in next(found.rows())
