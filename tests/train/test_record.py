"""What a run does about the files that lie in its directory."""

import json

import pytest

from normjax import configure, errors, train
from normjax.record import files
from normjax.record.directory import RunDirectory, RunState
from tests import support


@pytest.fixture
def run(tmp_path):
  return RunDirectory(tmp_path, configure.run_id(support.tiny()))


def test_a_run_that_is_over_is_not_run_again(run):
  result = run.write_result(RunState.DONE, steps=12, metrics={"eval/loss": 1.0})
  assert train.run(support.tiny(), run.path) == result


@pytest.mark.parametrize("name", [files.RUN, files.RESULT])
def test_a_newer_version_s_run_is_left_alone(run, name):
  text = json.dumps({"schema": 2, "run_id": run.run_id})
  (run.path / name).write_text(text)
  with pytest.raises(errors.RunError, match=f"{name} has schema 2"):
    train.run(support.tiny(), run.path)
  assert [path.name for path in run.path.iterdir()] == [name]
  assert (run.path / name).read_text() == text
