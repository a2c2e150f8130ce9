"""Reading: whole sweeps, half-finished ones, damaged files, plain folders."""

import json
import shutil

import pytest

from normjax import errors, report
from normjax.record import comparison
from normjax.report import facts, load


def _first_final(sweep):
  return next(run for run in sweep.runs if run.stage == "final")


def test_whole_sweep(finished_sweep):
  sweep = load.load(finished_sweep)
  assert len(sweep.methods) == 9
  assert len(sweep.finals("dyt+muon")) == 3
  assert len(sweep.trials("dyt+muon")) == 4
  assert sweep.problems == ()
  assert facts.is_complete(sweep)
  run = _first_final(sweep)
  assert run.state == "done"
  assert run.metric("eval/loss") == run.result["metrics"]["eval/loss"]
  assert sorted(run.curve("eval", "loss")) == list(range(50, 301, 50))


def test_diverged_run_has_no_metric(finished_sweep):
  sweep = load.load(finished_sweep)
  (run,) = [r for r in sweep.finals("dyt+sinkgd") if r.state == "diverged"]
  # Its last loss is in its rows; as a result it must not exist.
  assert run.metric("train/loss") is None
  assert run.result["diverged_at_step"] == 140


def test_half_finished(make_sweep):
  out = make_sweep()
  first, second = [r.run_id for r in load.load(out).finals("layer_norm+adamw")][
    :2
  ]
  shutil.rmtree(out / "runs" / first)
  (out / "runs" / second / "result.json").unlink()
  status = {"state": "running", "step": 120, "num_steps": 300, "message": ""}
  (out / "runs" / second / "status.json").write_text(json.dumps(status))
  sweep = load.load(out)
  assert not facts.is_complete(sweep)
  assert facts.progress(sweep) == (
    "36 of 36 tuning runs are over, 25 of 27 final runs are over"
  )
  assert facts.unfinished(sweep) == [
    f"layer_norm+adamw, seed 100, final ({first}): pending",
    f"layer_norm+adamw, seed 101, final ({second}): running at step 120 of 300",
  ]
  # Tables are copied into papers: each says it by itself.
  paths = report.write_report(out)
  for path in (paths.markdown, paths.tex):
    assert "Not complete: 36 of 36 tuning runs" in path.read_text()


@pytest.mark.parametrize("line", ['{"step": 3, "ki', "[1]", "nonsense", "{}"])
def test_damaged_metric_line_is_dropped_and_reported(make_sweep, line):
  out = make_sweep()
  run = _first_final(load.load(out))
  path = out / "runs" / run.run_id / "metrics.jsonl"
  with path.open("a") as file:
    file.write(line)
  sweep = load.load(out)
  assert _first_final(sweep).rows == run.rows
  (problem,) = sweep.problems
  number = len(path.read_text().splitlines())
  assert problem.startswith(f"runs/{run.run_id}/metrics.jsonl:{number} ")


def test_damaged_result_counts_as_missing(make_sweep):
  out = make_sweep()
  run = _first_final(load.load(out))
  (out / "runs" / run.run_id / "result.json").write_text('{"schema": 1,')
  sweep = load.load(out)
  assert _first_final(sweep).metric("eval/loss") is None
  (problem,) = sweep.problems
  assert "result.json is not valid JSON" in problem
  assert problem.endswith("counted as missing")


def test_failed_by_status(make_sweep):
  out = make_sweep()
  run = _first_final(load.load(out))
  directory = out / "runs" / run.run_id
  (directory / "result.json").unlink()
  status = {"state": "failed", "step": 7, "message": "out of memory"}
  (directory / "status.json").write_text(json.dumps(status))
  sweep = load.load(out)
  assert facts.failures(sweep) == [
    f"layer_norm+adamw, seed 100, final ({run.run_id}): failed: out of memory"
  ]


def test_failed_by_ledger(make_sweep):
  out = make_sweep()
  finals = load.load(out).finals("layer_norm+adamw")
  shutil.rmtree(out / "runs" / finals[0].run_id)
  rows = [
    {"run_id": finals[0].run_id, "state": "failed", "message": "first"},
    {"run_id": finals[0].run_id, "state": "failed", "message": "second"},
    {"run_id": finals[1].run_id, "state": "failed", "message": "once"},
    {"run_id": finals[1].run_id, "state": "done"},
  ]
  text = "".join(json.dumps(row) + "\n" for row in rows) + '{"run_'
  (out / "attempts.jsonl").write_text(text)
  sweep = load.load(out)
  assert sweep.problems == ("attempts.jsonl:5 is no attempt; dropped",)
  assert facts.failures(sweep) == [
    f"layer_norm+adamw, seed 100, final ({finals[0].run_id}): failed 2 times:"
    " second",
    f"layer_norm+adamw, seed 101, final ({finals[1].run_id}): done after 1"
    " failed attempt",
  ]


def test_folder_of_single_runs(make_sweep):
  out = make_sweep()
  (out / "plan.json").unlink()
  for path in (out / "runs").glob("t*"):
    shutil.rmtree(path)
  sweep = load.load(out)
  assert sweep.baseline is None
  labels = {method.label for method in sweep.methods}
  assert "norm=dyt, learning_rate=0.001, optimizer=adamw" in labels
  assert len(labels) == 9
  assert all(len(sweep.finals(label)) == 3 for label in labels)
  assert {run.seed for run in sweep.runs} == {100, 101, 102}
  assert load.load(out / "runs").methods == sweep.methods
  one = next((out / "runs").iterdir())
  assert [run.run_id for run in load.load(one).runs] == [one.name]


@pytest.mark.parametrize(
  ("said", "metric", "others"),
  [
    (("eval/accuracy", "eval/accuracy"), "eval/accuracy", ("eval/a", "eval/b")),
    (("eval/accuracy", "eval/hits"), "eval/loss", ()),
    (("eval/accuracy", None), "eval/loss", ()),
  ],
)
def test_runs_without_a_plan_say_by_what_they_are_compared(
  make_sweep, said, metric, others
):
  out = make_sweep()
  (out / "plan.json").unlink()
  first, second, *rest = sorted((out / "runs").iterdir())
  for path in rest:
    shutil.rmtree(path)
  for path, name, other in zip((first, second), said, "ab", strict=True):
    record = json.loads((path / "run.json").read_text())
    if name:
      record["compared_by"] = comparison.Measure(
        name, "max", (f"eval/{other}",)
      ).to_json()
    (path / "run.json").write_text(json.dumps(record))
  sweep = load.load(out)
  assert (sweep.metric, sweep.other_metrics) == (metric, others)
  assert sweep.mode == ("min" if metric == "eval/loss" else "max")


@pytest.mark.parametrize("exists", [True, False])
def test_neither_sweep_nor_runs(tmp_path, exists):
  out = tmp_path if exists else tmp_path / "nothing"
  with pytest.raises(errors.RunError, match=r"no plan\.json .* expected"):
    load.load(out)


@pytest.mark.parametrize(
  ("plan", "message"),
  [
    ('{"schema"', "not valid JSON"),
    ('{"schema": 2}', "schema 2; this normjax reads 1"),
    ("[]", "a mapping is needed. `normjax sweep` makes it anew"),
    ('{"schema": 1}', "has no 'sweep_id'"),
    ('{"schema": 0}', "schema 0; this normjax reads 1"),
  ],
)
def test_damaged_plan(tmp_path, plan, message):
  (tmp_path / "plan.json").write_text(plan)
  with pytest.raises(errors.RunError, match=message):
    load.load(tmp_path)


@pytest.mark.parametrize("points", [3, None, {}, [1], [{}], [{"run_id": "x"}]])
def test_a_plan_whose_points_are_no_list_of_points(make_sweep, points):
  out = make_sweep(trials=False)
  plan = json.loads((out / "plan.json").read_text())
  (out / "plan.json").write_text(json.dumps(plan | {"points": points}))
  with pytest.raises(errors.RunError, match=r"plan\.json .*points"):
    load.load(out)


def test_short_names():
  keys = ["optimizer.learning_rate", "optimizer.eps", "norm.eps", "norm.name"]
  assert comparison.short_names(keys) == {
    "optimizer.learning_rate": "learning_rate",
    "optimizer.eps": "optimizer.eps",
    "norm.eps": "norm.eps",
    "norm.name": "norm",
  }
