"""A place that another's results lie in is left as it is."""

import pytest

from normjax import configure, errors
from normjax.record import owner
from normjax.record.directory import RunDirectory, RunState
from tests import support

CONFIG = support.tiny()
OTHER = support.tiny({"seed": 3, "optimizer.learning_rate": 0.5})
RUN_ID, OTHER_ID = configure.run_id(CONFIG), configure.run_id(OTHER)


def test_differences_name_both_values():
  old = {"a": {"b": 1, "c": [1, 2]}, "d": "x"}
  new = {"a": {"b": 1, "c": [1, 3]}, "e": None}
  assert owner.differences(old, new) == [
    "a.c was [1, 2], is [1, 3]",
    'd was "x", is absent',
    "e was absent, is null",
  ]


def test_a_directory_is_the_run_s_that_began_there(tmp_path):
  run = RunDirectory(tmp_path / "any name", RUN_ID)
  owner.check(run, CONFIG)
  run.write_run(config=configure.to_dict(CONFIG))
  run.write_result(RunState.DONE, steps=4, metrics={})
  owner.check(run, CONFIG)
  other = RunDirectory(run.path, OTHER_ID)
  with pytest.raises(errors.RunError) as raised:
    owner.check(other, OTHER)
  said = str(raised.value)
  assert said.startswith(f"{run.path} holds another run, {RUN_ID} (done), than")
  assert f"{OTHER_ID}: optimizer.learning_rate was 0.003, is 0.5; seed" in said
  assert "seed was 0, is 3. Nothing of it was changed" in said
  # A result that this run cannot use is that run's, and stays.
  assert other.set_result_aside() == ""
  assert run.read_result().value is not None


def test_how_fast_data_comes_makes_no_other_run(tmp_path):
  plain = configure.to_dict(CONFIG)
  RunDirectory(tmp_path, RUN_ID).write_run(config=plain)
  faster = {**plain, "data": {**plain["data"], "threads": 7}}
  owner.check(RunDirectory(tmp_path, configure.run_id(faster)), faster)
