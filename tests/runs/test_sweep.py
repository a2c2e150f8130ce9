"""A sweep's rows, table and runs, from files alone."""

import numpy as np
import pytest

import normjax
from normjax import configure, errors
from normjax.commands import export as command
from tests import support
from tests.report import conftest as sweeps


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
  out = sweeps.write_sweep(tmp_path_factory.mktemp("sweeps") / "out")
  return normjax.load_sweep(out)


def test_rows_are_by_method_and_seed(sweep):
  rows = sweep.rows()
  assert [(r["method"], r["seed"]) for r in rows[:4]] == [
    ("layer_norm+adamw", 100),
    ("layer_norm+adamw", 101),
    ("layer_norm+adamw", 102),
    ("layer_norm+muon", 100),
  ]
  assert {row["method"] for row in rows} == {*sweep.methods}
  assert len(sweep.rows(None)) == len(rows) + len(sweep.rows("tune"))
  with pytest.raises(errors.UserError, match="allowed: 'final', 'tune', None"):
    sweep.rows("tuning")
  assert rows[0]["optimizer.learning_rate"] == 1e-3


def test_a_diverged_run_has_no_value_to_average(sweep):
  columns = sweep.columns()
  lost = columns["state"] == "diverged"
  assert lost.sum() == 1
  assert np.isnan(columns["eval/accuracy"][lost]).all()
  assert np.isfinite(columns["eval/loss"][~lost]).all()
  assert columns["seed"].dtype == np.int64


def test_the_table_is_the_report_s(sweep):
  table = {row["method"]: row for row in sweep.table()}
  assert table["layer_norm+adamw"]["verdict"] == "baseline"
  assert table["layer_norm+muon"]["verdict"] == "better"
  assert table["dyt+sinkgd"]["diverged"] == 1
  finals = [
    row["eval/loss"]
    for row in sweep.rows()
    if row["method"] == "layer_norm+muon"
  ]
  assert table["layer_norm+muon"]["mean"] == pytest.approx(np.mean(finals))


def test_best_is_a_final_run(sweep):
  best = sweep.record.runs[0]
  for run in sweep.record.runs:
    if run.stage == "final" and run.state == "done":
      loss = run.metric("eval/loss")
      if best.stage != "final" or loss < best.metric("eval/loss"):
        best = run
  opened = []
  sweep_runs = dict.fromkeys(sweep.runs)
  assert best.run_id in sweep_runs
  sweep.runs = Noting(opened)
  assert sweep.best == opened[0] == best.run_id


class Noting(dict):
  """Says which run was asked for."""

  def __init__(self, opened):
    self.opened = opened

  def __missing__(self, run_id):
    self.opened.append(run_id)
    return run_id


def test_runs_open_when_asked_for(tmp_path):
  config = support.tiny()
  folder = tmp_path / "mine"
  sweeps.write_run(folder, configure.to_dict(config), 1.5)
  sweep = normjax.load_sweep(tmp_path)
  ((run_id, run),) = sweep.runs.items()
  assert run is sweep.runs[run_id]
  assert run.directory == folder
  assert configure.to_dict(run.config) == configure.to_dict(config)
  with pytest.raises(KeyError):
    sweep.runs["another"]
  # Nothing to export: said, and no file left.
  with pytest.raises(errors.RunError, match="has no checkpoint"):
    run.save(tmp_path / "x.safetensors")
  assert [*tmp_path.glob("*.safetensors")] == []


def test_what_is_no_sweep_says_so(tmp_path):
  with pytest.raises(errors.RunError, match=r"has no plan\.json and no runs"):
    normjax.load_sweep(tmp_path)
  (tmp_path / "plan.json").write_text('{"schema": 99}')
  with pytest.raises(errors.RunError, match=r"plan\.json has schema 99.*newer"):
    normjax.load_sweep(tmp_path)


def test_the_command_says_what_it_needs():
  with pytest.raises(errors.UserError, match="needs a run directory and a fi"):
    command.run(["only"], [], None)
