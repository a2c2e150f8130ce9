"""`normjax bench sweep` at tiny sizes."""

import json

import pytest

from normjax import cli
from normjax.bench import made_sweeps
from normjax.record.directory import SweepDirectory
from normjax.sweep import api


@pytest.mark.slow
def test_a_sweep_s_own_time_is_measured(tmp_path, capsys):
  names = ["overhead", "plan", "replan", "report"]
  flags = ["--tiny", f"--measures={','.join(names)}", f"--out={tmp_path}"]
  assert cli.main(["bench", "sweep", *flags]) == 0, capsys.readouterr().err
  found = json.loads((tmp_path / "sweep.json").read_text())["results"]
  assert [each["name"] for each in found] == names
  assert all(each["value"] > 0 for each in found)
  assert "launcher, per point" in capsys.readouterr().out


def test_an_unknown_measure_is_named(capsys):
  assert cli.main(["bench", "sweep", "--measures=plan,speed"]) == 2
  said = capsys.readouterr().err
  assert "--measures=speed: known are overhead, plan" in said


def test_what_is_made_up_is_a_finished_sweep(tmp_path):
  path = made_sweeps.write_config(tmp_path, 2, 2, 2)
  count = made_sweeps.finish(path, tmp_path / "out", with_rows=True)
  state = api.Prepared(path, tmp_path / "out").state
  assert state.num_over() == len(state.plan.points) == count == 12
  run = SweepDirectory(tmp_path / "out").run(state.plan.points[0].run_id)
  assert run.read_run().value["config"]["norm"]["name"] == "layer_norm"
  assert run.read_rows()[1] == []
