"""What the files of a sweep say, whole or not."""

import json

import pytest

from normjax import errors
from normjax.sweep import ledger

RESULT = {"state": "done", "metrics": {"eval/loss": 1.0}}


@pytest.fixture
def make_run(tmp_path):
  def make(run_id, **named):
    directory = ledger.run_directory(tmp_path, run_id)
    directory.mkdir(parents=True)
    for name, content in named.items():
      path = directory / name.replace("__", ".")
      path.write_text(
        content if isinstance(content, str) else json.dumps(content)
      )
    return directory

  return make


def read_one(out, run_id="r"):
  entries, notes = ledger.read(out, [run_id])
  return entries[run_id], notes


def test_a_result_is_the_end(tmp_path, make_run):
  make_run("r", result__json=RESULT | {"run_id": "r"})
  entry, notes = read_one(tmp_path)
  assert (entry.state, entry.result["metrics"], notes) == (
    "done", {"eval/loss": 1.0}, [],
  )  # fmt: skip


def test_states_without_a_result(tmp_path, make_run):
  make_run("begun", metrics__jsonl="")
  make_run("failed", metrics__jsonl="")
  make_run("interrupted", metrics__jsonl="")
  make_run("empty")
  with ledger.attempts_file(tmp_path) as attempts:
    attempts.add("failed", "failed", message="first")
    attempts.add("failed", "failed", message="second")
    attempts.add("interrupted", "failed", message="once")
    attempts.add("interrupted", "interrupted")
  names = ["begun", "failed", "interrupted", "empty", "absent"]
  entries, notes = ledger.read(tmp_path, names)
  assert [entries[name].state for name in names] == [
    "partial", "failed", "partial", "pending", "pending",
  ]  # fmt: skip
  assert entries["failed"].failures == 2
  assert entries["failed"].message == "second"
  assert entries["interrupted"].failures == 1
  assert notes == []


@pytest.mark.parametrize(
  "content",
  [
    "",
    '{"state": "done", "metr',
    "[]",
    '{"state": "running", "metrics": {}}',
    '{"state": "done"}',
    '{"state": "done", "metrics": {}, "run_id": "other"}',
    "\x00\x00\x00",
  ],
)
def test_a_result_that_is_not_whole_is_none_and_said(
  tmp_path, make_run, content
):
  make_run("r", result__json=content, metrics__jsonl="")
  entry, notes = read_one(tmp_path)
  assert entry.state == "partial"
  assert entry.result is None
  assert len(notes) == 1
  assert "r/result.json" in notes[0]
  assert ledger.read_results(tmp_path) == {}


def test_bytes_that_are_no_text(tmp_path, make_run):
  (make_run("r") / "result.json").write_bytes(b"\xff\xfe{}")
  entry, notes = read_one(tmp_path)
  assert entry.state == "pending"
  assert len(notes) == 1


def test_attempts_survive_a_truncated_line(tmp_path):
  with ledger.attempts_file(tmp_path) as attempts:
    attempts.add("r", "failed", message="first")
  path = tmp_path / ledger.ATTEMPTS
  path.write_bytes(path.read_bytes() + b'{"run_id": "r", "sta')
  with ledger.attempts_file(tmp_path) as attempts:
    attempts.add("r", "failed", message="second")
  entry, notes = read_one(tmp_path)
  assert (entry.failures, entry.message) == (2, "second")
  assert len(notes) == 1
  assert "attempts.jsonl:2" in notes[0]


def test_another_sweep_is_named_with_this_one(tmp_path):
  plan = {"sweep_id": "aaa", "config_file": "one.py"}
  ledger.check_same(tmp_path, plan, "aaa", "one.py")
  with pytest.raises(errors.RunError, match=r"aaa of one.py.*bbb of two.py"):
    ledger.check_same(tmp_path, plan, "bbb", "two.py")


def test_a_plan_that_is_not_whole_is_made_anew(tmp_path):
  assert ledger.read_plan(tmp_path) == (None, "")
  for content in (
    "",
    "{",
    "[]",
    '{"schema": 1}',
    '{"sweep_id": "a", "points": 3}',
    '{"sweep_id": "a", "points": [1]}',
    '{"sweep_id": "a", "points": [{"run_id": "b"}]}',
    '{"sweep_id": "a", "points": [], "methods": [{}]}',
  ):
    (tmp_path / ledger.PLAN).write_text(content)
    plan, note = ledger.read_plan(tmp_path)
    assert plan is None
    assert "not whole" in note


def test_status_is_for_display_only(tmp_path):
  assert ledger.read_status(tmp_path) == {}
  (tmp_path / "status.json").write_text('{"step": ')
  assert ledger.read_status(tmp_path) == {}
  (tmp_path / "status.json").write_text('{"step": 3}')
  assert ledger.read_status(tmp_path) == {"step": 3}
