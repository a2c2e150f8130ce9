import json
import os
import subprocess
import sys

import pytest

from normjax import errors
from normjax.record import files


def test_non_finite_numbers_become_null(tmp_path):
  path = tmp_path / "a" / "x.json"
  files.write_json(path, {"loss": float("nan"), "rows": [float("inf"), 1]})
  assert files.read_json(path) == {"loss": None, "rows": [None, 1]}


def test_a_missing_file_reads_as_none_and_a_broken_one_is_named(tmp_path):
  assert files.read_json(tmp_path / "none.json") is None
  broken = tmp_path / "broken.json"
  broken.write_text('{"a": ')
  with pytest.raises(errors.RunError, match="broken.json is not valid JSON"):
    files.read_json(broken)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
  path = tmp_path / "x.json"
  files.write_json(path, 1)

  def full(*arguments):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(os, "replace", full)
  with pytest.raises(OSError, match="No space left"):
    files.write_json(path, 2)
  assert path.read_text() == "1\n"
  assert os.listdir(tmp_path) == ["x.json"]


def test_a_truncated_last_row_is_dropped_and_said(tmp_path):
  path = tmp_path / "metrics.jsonl"
  row = {"step": 1, "kind": "train", "loss": 2.0}
  path.write_text(json.dumps(row) + '\n{"step": 2, "ki')
  rows, problems = files.read_rows(path)
  assert rows == [row]
  assert len(problems) == 1
  assert f"{path}:2" in problems[0]


def test_reopening_drops_what_is_not_kept(tmp_path):
  path = tmp_path / "metrics.jsonl"
  metrics = files.MetricsFile(path, keep=lambda row: True)
  for step in range(4):
    metrics.append({"step": step, "kind": "train", "loss": float(step)})
  metrics.close()
  metrics = files.MetricsFile(path, keep=lambda row: row["step"] < 2)
  metrics.append({"step": 2, "kind": "train", "loss": 9.0})
  metrics.close()
  rows, problems = files.read_rows(path)
  assert [(row["step"], row["loss"]) for row in rows] == [
    (0, 0.0),
    (1, 1.0),
    (2, 9.0),
  ]
  assert problems == []


def test_each_row_is_on_disk_before_the_next_is_made(tmp_path):
  """A process that is killed loses no row that it wrote."""
  path = tmp_path / "metrics.jsonl"
  program = (
    "import os, signal, sys; from pathlib import Path;"
    "from normjax.record import files;"
    "m = files.MetricsFile(Path(sys.argv[1]), keep=lambda row: True);"
    "[m.append({'step': i, 'kind': 'train'}) for i in range(3)];"
    "os.kill(os.getpid(), signal.SIGKILL)"
  )
  subprocess.run([sys.executable, "-c", program, str(path)], check=False)
  assert [row["step"] for row in files.read_rows(path)[0]] == [0, 1, 2]


def test_rows_of_more_steps_than_memory_has_are_lost():
  rows = [{"step": 0, "kind": "eval"}]
  config = {"evaluate": {"every_steps": 10**6}}
  (problem,) = files.lost_rows(rows, 10**15, config)
  assert "1 of kind 'eval' in place of 1000000000" in problem


def test_a_write_that_fails_names_the_file(tmp_path):
  (tmp_path / "status.json").mkdir()
  with pytest.raises(IsADirectoryError) as error:
    files.write_text(tmp_path / "status.json", "{}")
  assert error.value.filename == str(tmp_path / "status.json")
  assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


def test_what_was_set_aside_stays(tmp_path):
  path = tmp_path / "result.json"
  for text in ("one", "two", "three"):
    path.write_text(text)
    assert files.set_aside(path).read_text() == text
  assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {
    "result.json.corrupt": "one",
    "result.json.corrupt-2": "two",
    "result.json.corrupt-3": "three",
  }
