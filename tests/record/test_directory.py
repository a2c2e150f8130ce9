"""One answer for whatever a run's files say, whole or not."""

import json
import os
import stat
import subprocess
import sys

import pytest

from normjax import errors
from normjax.record import directory, files, lock
from normjax.record.directory import Attempt, RunDirectory, RunState

RESULT = {
  "schema": 1,
  "run_id": "r",
  "state": "done",
  "steps": 4,
  "metrics": {"eval/loss": 1.0, "eval/accuracy": None},
}
RUNNING = {"state": "running", "step": 3, "updated_s": 10.0}


@pytest.fixture
def run(tmp_path):
  path = tmp_path / "r"
  path.mkdir()
  return RunDirectory(path, "r")


def write(run, **named):
  for name, content in named.items():
    path = run.path / name.replace("__", ".")
    path.write_text(
      content if isinstance(content, str) else json.dumps(content)
    )


def attempt(state, time_unix_s=20.0, message=""):
  return Attempt(RunState(state), message, time_unix_s)


def owned_by_the_dead(run):
  with lock.held(run.path, "run"):
    pass
  path = run.path / lock.NAME
  process = subprocess.Popen([sys.executable, "-c", ""])
  process.wait()
  path.write_text(
    json.dumps(json.loads(path.read_text()) | {"pid": process.pid})
  )


@pytest.mark.parametrize(
  ("contents", "attempts", "state"),
  [
    ({}, [], "pending"),
    ({}, ["interrupted"], "pending"),
    ({}, ["failed"], "failed"),
    ({"run__json": "{}"}, [], "interrupted"),
    ({"metrics__jsonl": ""}, [], "interrupted"),
    ({"ckpt": ""}, [], "interrupted"),
    ({"status__json": RUNNING}, [], "running"),
    ({"status__json": {"state": "interrupted"}}, [], "interrupted"),
    ({"status__json": {"state": "failed", "message": "why"}}, [], "failed"),
    # Failed, and then interrupted.
    ({"status__json": {"state": "failed"}}, ["failed", "interrupted"],
     "interrupted"),
    # A worker that was killed could not say so itself.
    ({"status__json": RUNNING}, ["failed"], "failed"),
    # A later try of the same run is at it.
    ({"status__json": RUNNING | {"updated_s": 30.0}}, ["failed"], "running"),
    # A result that is damaged is none, whatever else says "done".
    ({"status__json": {"state": "done"}}, ["done"], "interrupted"),
    ({"status__json": {"state": "done"}, "result__json": '{"state": "do'},
     ["done"], "interrupted"),
    ({"status__json": {"state": "done"}, "result__json": {}}, [],
     "interrupted"),
    ({"status__json": {"state": "done"},
      "result__json": RESULT | {"run_id": "other"}}, [], "interrupted"),
    ({"status__json": {"state": "half"}}, [], "interrupted"),
    ({"result__json": RESULT}, ["failed"], "done"),
    ({"result__json": RESULT | {"state": "diverged"}}, [], "diverged"),
    ({"result__json": RESULT, "status__json": RUNNING}, [], "done"),
  ],
)  # fmt: skip
def test_the_state_of_a_run(run, contents, attempts, state):
  write(run, **contents)
  record = run.read([attempt(each) for each in attempts])
  assert record.state == state
  assert (record.result is not None) == record.state.over


def test_a_killed_run_is_interrupted(run):
  write(run, status__json=RUNNING)
  with lock.held(run.path, "run"):
    assert run.read().state is RunState.RUNNING
  owned_by_the_dead(run)
  assert run.read().state is RunState.INTERRUPTED


@pytest.mark.parametrize(
  ("name", "content", "said"),
  [
    ("result", '{"state": "done", "metr', "is not valid JSON"),
    ("result", "[]", "a mapping is needed"),
    ("result", "{}", "has no 'run_id'"),
    ("result", RESULT | {"run_id": "other"}, "is of run other"),
    ("result", RESULT | {"state": "running"}, "done or diverged is needed"),
    ("result", RESULT | {"steps": None}, "a whole number is needed"),
    ("result", RESULT | {"metrics": {"eval/loss": "1.0"}}, "metrics"),
    ("result", json.dumps(RESULT).replace("1.0", "NaN"), "it says NaN"),
    ("result", json.dumps(RESULT).replace("1.0", "1e999"), "numbers or null"),
    ("result", RESULT | {"metrics": {"eval/loss": 10**400}}, "or null"),
    ("result", RESULT | {"wall_s": 10**400}, "a number or null is needed"),
    ("result", RESULT | {"schema": 0}, "has schema 0"),
    ("result", RESULT | {"schema": 2}, "; a newer one wrote it"),
    ("run", {"run_id": "r"}, "has no 'config'"),
    ("run", {"config": None}, "config = None"),
    ("run", {"config": {"seed": "x"}}, "config.seed = 'x'"),
    ("run", {"config": {}, "provenance": {"git": "x"}}, "provenance.git"),
    ("run", {"config": {}, "problems": "none"}, "a list of texts is needed"),
    ("run", {"config": {}, "run_id": "other"}, "is of run other"),
    ("status", {"state": "running", "step": "3"}, "a step or null is needed"),
    ("status", {"state": 3}, "state = 3"),
  ],
)  # fmt: skip
def test_one_reader_names_the_file_and_what_is_wrong(run, name, content, said):
  write(run, **{f"{name}__json": content})
  found = getattr(run, f"read_{name}")()
  assert found.value is None
  assert found.problem.startswith(f"{run.path / name}.json ")
  assert said in found.problem


def test_bytes_that_are_no_text(run):
  (run.path / files.RESULT).write_bytes(b"\xff\xfe{}")
  assert "is not valid JSON" in run.read_result().problem


def test_nobody_goes_on_where_a_newer_version_has_begun(run):
  for content in ({}, RESULT, RESULT | {"schema": 0}):
    write(run, result__json=content)
    run.check_usable()
  for name in (files.RUN, files.RESULT):
    write(run, run__json={"config": {}}, result__json=RESULT)
    newer = json.dumps({"config": {}, **RESULT, "schema": 2})
    (run.path / name).write_text(newer)
    with pytest.raises(
      errors.RunError, match=f"{name} has schema 2; .*; a newer"
    ):
      run.check_usable()
  assert run.read().blocked


def test_what_is_written_is_read(run):
  run.write_run(config={"seed": 1}, problems=[])
  run.write_status(RunState.RUNNING, step=2, loss=float("nan"))
  assert run.read_run().value["config"] == {"seed": 1}
  assert run.read().status == {"state": "running", "step": 2, "loss": None}
  written = run.write_result(
    RunState.DONE, steps=1, metrics={"a": float("inf")}
  )
  assert written["metrics"] == {"a": None}
  assert run.read_result().value == written
  assert run.read().state is RunState.DONE


def test_rows_say_whose_they_are(run, tmp_path):
  metrics = run.open_metrics(lambda row: True)
  for step in range(3):
    metrics.append({"step": step, "kind": "train", "loss": 1.0})
  metrics.close()
  rows, problems = run.read_rows()
  assert (len(rows), problems) == (3, [])
  assert all(row.keys() == {"step", "kind", "loss"} for row in rows)
  metrics = run.open_metrics(lambda row: row["step"] < 2)  # still says so
  metrics.close()
  copied = RunDirectory(run.path, "other")
  assert copied.read_rows() == (
    [], [f"{run.path / files.METRICS} is of run r, not of this one"],
  )  # fmt: skip
  metrics = copied.open_metrics(lambda row: True)
  metrics.close()
  assert (metrics.rows, copied.read_rows()) == ([], ([], []))
  assert "moved to metrics.jsonl.corrupt" in metrics.problems[1]


def test_rows_of_earlier_versions_do_not_say(run):
  write(run, metrics__jsonl='{"step": 0, "kind": "train"}\n')
  assert run.read_rows() == ([{"step": 0, "kind": "train"}], [])


def test_a_result_that_is_not_this_run_s_is_set_aside(run):
  assert run.set_result_aside() == ""
  write(run, result__json=RESULT)
  assert run.set_result_aside() == ""
  write(run, result__json="{")
  assert "moved to result.json.corrupt" in run.set_result_aside()
  assert not (run.path / files.RESULT).exists()


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_files_are_readable_as_umask_says(tmp_path, umask):
  before = os.umask(umask)
  try:
    RunDirectory(tmp_path / "r", "r").write_run(config={})
    sweep = directory.SweepDirectory(tmp_path)
    with sweep.open_attempts() as attempts:
      attempts.add("r", RunState.FAILED)
  finally:
    os.umask(before)
  for name in ("r/run.json", "attempts.jsonl"):
    mode = stat.S_IMODE((tmp_path / name).stat().st_mode)
    assert mode == 0o666 & ~umask, name


def test_attempts_survive_a_truncated_line(tmp_path):
  sweep = directory.SweepDirectory(tmp_path)
  assert sweep.read_attempts() == ({}, [])
  with sweep.open_attempts() as attempts:
    attempts.add("r", RunState.FAILED, message="first")
  path = tmp_path / directory.ATTEMPTS
  path.write_bytes(path.read_bytes() + b'{"run_id": "r", "sta')
  with sweep.open_attempts() as attempts:
    attempts.add("r", RunState.INTERRUPTED)
  found, problems = sweep.read_attempts()
  assert [(each.state, each.message) for each in found["r"]] == [
    (RunState.FAILED, "first"), (RunState.INTERRUPTED, ""),
  ]  # fmt: skip
  assert problems == [f"{path}:2 is no attempt; dropped"]
  path.write_text("[" * 100_000 + "\n" + path.read_text())
  assert sweep.read_attempts()[0] == found


PLAN = {
  "sweep_id": "a",
  "config_file": "c.py",
  "config": {},
  "metric": "eval/loss",
  "mode": "min",
  "baseline": None,
  "tuned": [],
  "trials_per_method": 0,
  "methods": [{"label": "x", "overrides": {}, "tuned": None, "on_edge": False}],
  "points": [
    {"run_id": "r", "stage": "final", "method": "x", "overrides": {},
     "seed": seed, "program": "p"}
    for seed in (0, 1)
  ],
}  # fmt: skip


@pytest.mark.parametrize(
  ("content", "said"),
  [
    ("", "is not valid JSON"),
    ("{", "is not valid JSON"),
    ([], "holds []; a mapping is needed"),
    ({"schema": 1}, "has no 'sweep_id'"),
    (PLAN | {"points": 3}, "points = 3; a list of points is needed"),
    (PLAN | {"points": None}, "a list of points is needed"),
    (PLAN | {"points": [1]}, "in points[0] holds 1; a mapping is needed"),
    (PLAN | {"points": [{"run_id": "b"}]}, "in points[0] has no 'stage'"),
    (PLAN | {"methods": [{}]}, "in methods[0] has no 'label'"),
    (PLAN | {"mode": "least"}, "min or max is needed"),
    ({k: v for k, v in PLAN.items() if k != "baseline"}, "has no 'baseline'"),
    (PLAN | {"methods": [{"label": "x", "overrides": {}, "tuned": None}]},
     "in methods[0] has no 'on_edge'"),
    *((PLAN | {"points": [PLAN["points"][0] | {"run_id": name}]},
       "in points[0] has run_id = ")
      for name in ("", "..", "a/b", "\0", "\ud800", "x" * 256)),
    (PLAN | {"points": [PLAN["points"][0] | {"method": "y"}]},
     "in points[0] names no method: 'y'"),
    (PLAN | {"schema": -(10**400)}, "has schema -1000"),
    (PLAN | {"schema": 0}, "has schema 0; this normjax reads 1"),
    (PLAN | {"schema": "1"}, "has schema '1'; this normjax reads 1"),
  ],
)  # fmt: skip
def test_a_plan_that_is_not_whole(tmp_path, content, said):
  sweep = directory.SweepDirectory(tmp_path)
  text = content if isinstance(content, str) else json.dumps(content)
  (tmp_path / directory.PLAN).write_text(text)
  value, problem, blocked = sweep.read_plan()
  assert (value, blocked) == (None, False)
  assert problem.startswith(f"{tmp_path / directory.PLAN} ")
  assert said in problem


def test_a_plan_of_a_newer_version_is_refused(tmp_path):
  sweep = directory.SweepDirectory(tmp_path)
  text = json.dumps({"schema": 2, "runs": []})
  (tmp_path / directory.PLAN).write_text(text)
  with pytest.raises(errors.RunError, match="has schema 2; .*; a newer one"):
    sweep.read_plan()


def test_a_plan_is_written_where_it_says_something_new(tmp_path):
  sweep = directory.SweepDirectory(tmp_path)
  assert sweep.read_plan().value is None
  sweep.write_plan(PLAN)
  path = tmp_path / directory.PLAN
  assert sweep.read_plan().value == {"schema": 1, **PLAN}
  assert path.read_text().count('"run_id"') == 2
  # A line per point: to be searched, and compared, line by line.
  assert sum('"run_id"' in line for line in path.read_text().splitlines()) == 2
  before = path.stat().st_ino
  sweep.write_plan(PLAN | {"points": tuple(PLAN["points"])})
  assert path.stat().st_ino == before
  sweep.write_plan(PLAN | {"baseline": "x"})
  assert sweep.read_plan().value["baseline"] == "x"
