"""No file of a run ends the report: it is named, and the rest is told."""

import json
import math
import shutil
import socket
import subprocess
import sys

import pytest

from normjax import cli, errors, report
from normjax.record.directory import RunState, SweepDirectory
from normjax.report import load, stats
from normjax.sweep.ledger import Ledger

SMALL = {
  "norms": {"rms_norm": 0.0, "dyt": 0.06},
  "optimizers": {"adamw": (0.0, 1e-3)},
  "trials": False,
  "diverged": (),
  "baseline": "rms_norm+adamw",
}


@pytest.fixture
def out(make_sweep):
  return make_sweep(**SMALL)


def first(out):
  return out / "runs" / load.load(out).finals("dyt+adamw")[0].run_id


def edit(path, changes):
  path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def mean(out, label="dyt+adamw"):
  (row,) = (r for r in stats.summarize(load.load(out)) if r.label == label)
  return row.interval


def said(out, *, name, text):
  """The report is written, and says what is wrong with one file, once."""
  html = report.write_report(out).html.read_text()
  problems = [p for p in load.load(out).problems if text in p]
  assert len(problems) == 1, load.load(out).problems
  assert problems[0].startswith(f"runs/{first(out).name}/{name}")
  assert "counted as missing" in html or "dropped" in html
  return problems[0]


RESULT_DAMAGE = [
  ({"metrics": {"eval/loss": math.nan}}, "NaN"),
  ({"metrics": {"eval/loss": "low"}}, "metrics = "),
  ({"metrics": None}, "metrics = None"),
  ({"steps": None}, "steps = None"),
  ({"steps": "300"}, "steps = '300'"),
  ({"train_s": "long"}, "train_s = 'long'"),
  ({"diverged_at_step": 1.5}, "diverged_at_step = 1.5"),
  ({"run_id": "another"}, "is of run another"),
  ({"state": "running"}, "state = 'running'"),
  ({"schema": 2}, "has schema 2; this normjax reads 1"),
  ({"schema": 0}, "has schema 0; this normjax reads 1"),
]


@pytest.mark.parametrize(("changes", "text"), RESULT_DAMAGE)
def test_a_result_that_is_none(out, changes, text):
  before = mean(out)
  path = first(out) / "result.json"
  edit(path, changes)
  said(out, name="result.json", text=text)
  after = mean(out)
  assert (before.n, after.n) == (3, 2)
  assert mean(out, "rms_norm+adamw").n == 3


@pytest.mark.parametrize(
  ("changes", "text"),
  [
    ({"config": None}, "config = None"),
    ({"config": {"seed": "x"}}, "config.seed = 'x'"),
    ({"provenance": {"created": math.inf}}, "Infinity"),
    ({"provenance": {"created": 3}}, "provenance.created = 3"),
    ({"provenance": {"git": "abc"}}, "provenance.git = 'abc'"),
    ({"provenance": None}, "provenance = None"),
    ({"problems": "some"}, "problems = 'some'"),
    ({"num_params": "many"}, "num_params = 'many'"),
    ({"run_id": "another"}, "is of run another"),
  ],
)
def test_a_run_file_that_is_none(out, changes, text):
  edit(first(out) / "run.json", changes)
  said(out, name="run.json", text=text)
  assert mean(out).n == 3


@pytest.mark.parametrize(
  "row",
  [
    {"step": 300, "kind": "eval", "loss": math.nan},
    {"step": 300, "kind": "eval", "loss": "low"},
    {"step": None, "kind": "eval", "loss": 1.0},
    {"step": "300", "kind": "eval", "loss": 1.0},
    {"step": 300, "kind": None, "loss": 1.0},
    {"step": 300, "kind": "eval", "loss": [1.0]},
  ],
)
def test_a_row_that_is_none(out, row):
  with (first(out) / "metrics.jsonl").open("a") as file:
    file.write(json.dumps(row) + "\n")
  said(out, name="metrics.jsonl:", text="is not a metric row; dropped")


def test_a_number_that_was_not_finite_is_no_damage(out):
  edit(first(out) / "result.json", {"metrics": {"eval/loss": None}})
  with (first(out) / "metrics.jsonl").open("a") as file:
    file.write('{"step": 301, "kind": "eval", "loss": null}\n')
  report.write_report(out)
  assert load.load(out).problems == ()
  assert mean(out).n == 2


def test_another_run_s_rows_are_told(out):
  first_run, second_run = load.load(out).finals("dyt+adamw")[:2]
  path = out / "runs" / first_run.run_id / "metrics.jsonl"
  rows = [dict(row) for row in second_run.rows]
  rows[0]["run_id"] = second_run.run_id
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  assert load.load(out).finals("dyt+adamw")[0].rows == ()
  (problem,) = load.load(out).problems
  assert problem.endswith(f"is of run {second_run.run_id}, not of this one")


def test_rows_that_were_lost_are_told(out):
  run = load.load(out).finals("dyt+adamw")[0]
  directory = out / "runs" / run.run_id
  config = run.record["config"]
  config |= {"log": {"every_steps": 50}, "evaluate": {"every_steps": 100}}
  edit(directory / "run.json", {"config": config})
  rows = [
    {"step": step, "kind": kind, "loss": 1.0}
    for kind, every in (("train", 50), ("eval", 100))
    for step in range(0, 300, every)
  ]
  last = {"step": 300, "kind": "eval", "loss": 1.0}

  def write(rows):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (directory / "metrics.jsonl").write_text(text)

  write([*rows, last])
  assert load.load(out).problems == ()
  write([*rows[4:], last])
  (problem,) = load.load(out).problems
  assert problem == (
    f"runs/{run.run_id}/metrics.jsonl lacks rows of steps before 300, or has"
    " some twice: 2 of kind 'train' in place of 6"
  )


def _truncated(directory):
  (directory / "result.json").write_text('{"schema": 1, "run_')


def _another_s(directory):
  edit(directory / "result.json", {"run_id": "another"})


def _empty(directory):
  (directory / "result.json").write_text("{}")


def _killed(directory):
  (directory / "result.json").unlink()
  edit(directory / "status.json", {"state": "running"})
  gone = subprocess.run(
    [sys.executable, "-c", "import os; print(os.getpid())"],
    capture_output=True,
    check=True,
  )
  owner = {"pid": int(gone.stdout), "host": socket.gethostname()}
  (directory / ".lock").write_text(json.dumps(owner))


def _failed_then_interrupted(directory):
  (directory / "result.json").unlink()
  edit(directory / "status.json", {"state": "failed", "message": "no disk"})
  with SweepDirectory(directory.parents[1]).open_attempts() as attempts:
    attempts.add(directory.name, RunState.FAILED, message="no disk")
    attempts.add(directory.name, RunState.INTERRUPTED)


@pytest.mark.parametrize(
  "damage",
  [_truncated, _another_s, _empty, _killed, _failed_then_interrupted],
)
def test_the_sweep_and_the_report_give_one_answer(out, damage):
  directory = first(out)
  assert Ledger(SweepDirectory(out)).record(directory.name).state == "done"
  damage(directory)
  state = Ledger(SweepDirectory(out)).record(directory.name).state
  (run,) = (r for r in load.load(out).runs if r.run_id == directory.name)
  assert run.state is state is RunState.INTERRUPTED
  assert mean(out).n == 2


def test_runs_without_a_plan_are_checked_alike(out):
  (out / "plan.json").unlink()
  path = sorted((out / "runs").iterdir())[0]
  renamed = path.rename(path.with_name("renamed"))
  assert load.load(out).problems == ()
  other = sorted((out / "runs").iterdir())[0]
  shutil.copy(other / "result.json", renamed / "result.json")
  (problem,) = load.load(out).problems
  assert problem.startswith("runs/renamed/result.json is of run")
  for run in (out / "runs").iterdir():
    (run / "run.json").write_text("{}")
  with pytest.raises(errors.RunError, match="no run.json could be read"):
    load.load(out)


@pytest.mark.parametrize(
  ("changes", "text"),
  [
    ({"points": 3}, "points = 3; a list of points is needed"),
    ({"points": [3]}, "in points[0] holds 3; a mapping is needed"),
    ({"points": None}, "a list of points is needed"),
    ({"schema": 2}, "has schema 2; this normjax reads 1; a newer one wrote it"),
    ({"schema": 0}, "has schema 0; this normjax reads 1"),
  ],
)
def test_a_plan_that_cannot_be_used_is_one_line(out, capsys, changes, text):
  edit(out / "plan.json", changes)
  assert cli.main(["report", str(out)]) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith("normjax: ")
  assert text in line
