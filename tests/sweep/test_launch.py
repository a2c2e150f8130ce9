"""Sweeps of the toy runner: what is skipped, resumed, retried, reported."""

import io
import json
import re

import pytest
import rich.console
from in_process import InProcess
from toy_runner import logs, results

from normjax import errors
from normjax.record import directory
from normjax.sweep import progress

SIX = """product(
  grid("toy.name", ["a", "bb"]), grid("seed", range(3)))"""
TUNED = """Sweep(
  methods=grid("toy.name", ["a", "bb"]), seeds=(0, 1),
  tune=Tune({"optimizer.learning_rate": log_grid(0.01, 1.0, 3)}))"""


def trouble(kind):
  return f"""[{{"toy.name": n, "toy.trouble": t, "seed": s}}
    for n, t in (("a", ""), ("bb", "{kind}")) for s in range(2)]"""


def attempts(out):
  path = out / directory.ATTEMPTS
  return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_point_is_run_once(write_config, run_toy, tmp_path):
  summary = run_toy(write_config(SIX), tmp_path / "out", executor="local")
  plan = json.loads((tmp_path / "out/plan.json").read_text())
  found = results(tmp_path / "out")
  assert set(found) == {point["run_id"] for point in plan["points"]}
  assert len(found) == 6
  assert all(
    lines.count("begin") == 1 for lines in logs(tmp_path / "out").values()
  )
  assert (summary.num_done, summary.num_ran, summary.exit_code) == (6, 6, 0)
  assert {row["state"] for row in attempts(tmp_path / "out")} == {"done"}
  assert plan["baseline"] == "a"


def test_a_tuned_sweep_runs_all_its_stages(write_config, run_toy, tmp_path):
  summary = run_toy(write_config(TUNED), tmp_path / "out")
  plan = json.loads((tmp_path / "out/plan.json").read_text())
  stages = [point["stage"] for point in plan["points"]]
  # Of each seed and method three values and two more around the best.
  assert (stages.count("tune"), stages.count("final")) == (20, 4)
  assert [
    (c["for_seed"], c["values"]) for m in plan["methods"] for c in m["choices"]
  ] == [(seed, {"optimizer.learning_rate": 0.1}) for seed in (0, 1)] * 2
  assert summary.num_done == plan["num_points"] == 24


def test_a_finished_sweep_runs_nothing(
  write_config, run_toy, tmp_path, monkeypatch
):
  config = write_config(TUNED)
  run_toy(config, tmp_path / "out")
  before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.json")}
  # Neither workers nor, for jax's sake, program keys.
  monkeypatch.setattr(InProcess, "start", None)
  summary = run_toy(config, tmp_path / "out", program_key=None)
  assert (summary.num_done, summary.num_ran, summary.exit_code) == (24, 0, 0)
  after = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.json")}
  assert after == before


def test_a_finished_sweep_imports_no_jax(
  write_config, run_toy, start_toy, tmp_path
):
  config = write_config(SIX)
  run_toy(config, tmp_path / "out")
  output, _ = start_toy(config, tmp_path / "out").communicate(timeout=60)
  assert json.loads(output.splitlines()[-1]) == {"jax": False, "ran": 0}


def test_the_done_are_skipped_and_the_partial_resumed(
  write_config, run_toy, tmp_path
):
  config, out = write_config(SIX), tmp_path / "out"
  run_toy(config, out)
  expected = results(out)
  done, partial, corrupt, *others = sorted(expected)
  (out / "runs" / partial / "result.json").unlink()
  (out / "runs" / partial / "ckpt").write_text('{"step": 2, "sum": 0.0}')
  (out / "runs" / corrupt / "result.json").write_text('{"state": "do')
  console = rich.console.Console(file=io.StringIO())
  summary = run_toy(config, out, console=console)
  assert summary.num_ran == 2
  assert f"{corrupt}/result.json is not valid JSON" in console.file.getvalue()
  assert (out / "runs" / corrupt / "result.json.corrupt").exists()
  lines = logs(out)
  assert lines[partial][-3:] == ["begin", "step 3", "step 4"]
  assert lines[done].count("begin") == 1
  found = results(out)
  assert {k: found[k] for k in (done, corrupt, *others)} == {
    k: expected[k] for k in (done, corrupt, *others)
  }


def test_a_failing_point_is_tried_again(write_config, run_toy, tmp_path):
  summary = run_toy(write_config(trouble("raise:1")), tmp_path / "out")
  assert (summary.num_done, summary.failed) == (4, {})
  states = [row["state"] for row in attempts(tmp_path / "out")]
  assert (states.count("failed"), states.count("done")) == (2, 4)


def test_a_failing_point_does_not_stop_the_rest(
  write_config, run_toy, tmp_path
):
  console = rich.console.Console(file=io.StringIO(), width=500)
  config, out = write_config(trouble("raise")), tmp_path / "out"
  summary = run_toy(config, out, retries=2, console=console, executor="local")
  assert (summary.num_done, summary.exit_code) == (2, 1)
  assert len(summary.failed) == 2
  assert set(summary.failed.values()) == {
    "RuntimeError: toy trouble in attempt 3"
  }
  said = console.file.getvalue()
  # Either seed may be the first: they run beside each other.
  first = r"bb seed [01]: failed: RuntimeError: toy trouble in attempt 1"
  assert re.search(first, said)
  # A fault is told once, however many points it hits.
  assert said.count("toy trouble in attempt 3") == 1
  told = "failed: 2 points: RuntimeError: toy trouble in attempt 3; first: bb"
  assert told in summary.text()
  assert "2 points failed; the same command tries them again" in summary.text()
  # The traceback is in a worker's log, with the prints of the runs.
  text = "".join(p.read_text() for p in (out / "logs").glob("*.log"))
  assert "make_trouble" in text
  assert "noise on standard output" in text
  assert "and below Python" in text
  # Another call tries again.
  assert run_toy(config, out, retries=0).num_ran == 0
  assert max(lines.count("begin") for lines in logs(out).values()) == 4


def test_bad_input_is_not_tried_again(write_config, run_toy, tmp_path):
  summary = run_toy(
    write_config(trouble("bad_input")), tmp_path / "out", retries=5
  )
  assert len(summary.failed) == 2
  assert len(attempts(tmp_path / "out")) == 4


@pytest.mark.parametrize(
  ("kind", "message"),
  [
    ("sigkill:1", "the worker was killed by SIGKILL"),
    ("exit:1", "SystemExit: 3"),
  ],
)
def test_a_worker_that_dies_is_replaced(
  write_config, run_toy, tmp_path, kind, message
):
  summary = run_toy(
    write_config(trouble(kind)), tmp_path / "out", workers=1, executor="local"
  )
  assert (summary.num_done, summary.failed) == (4, {})
  failed = [
    row for row in attempts(tmp_path / "out") if row["state"] == "failed"
  ]
  assert len(failed) == 2
  assert all(message in row["message"] for row in failed)


def test_a_run_that_leaves_no_result_has_failed(
  write_config, tmp_path, run_toy, monkeypatch
):
  monkeypatch.setenv("PYTHONPATH", str(tmp_path))
  monkeypatch.syspath_prepend(str(tmp_path))
  (tmp_path / "lazy_runner.py").write_text(
    "def run(config, directory): return {'state': 'done'}"
  )
  summary = run_toy(
    write_config(SIX), tmp_path / "out", runner="lazy_runner:run", retries=0
  )
  assert len(summary.failed) == 6
  assert all("without" in message for message in summary.failed.values())


def test_fewer_workers_than_asked_are_enough(
  write_config, run_toy, tmp_path, monkeypatch
):
  monkeypatch.syspath_prepend(str(tmp_path))
  (tmp_path / "single_runner.py").write_text(
    "import pathlib\n"
    "from toy_runner import run\n"
    "pathlib.Path(__file__).with_name('only one').touch(exist_ok=False)\n"
  )
  console = rich.console.Console(file=io.StringIO(), width=500)
  summary = run_toy(
    write_config(SIX, step_s=0.1),
    tmp_path / "out",
    runner="single_runner:run",
    console=console,
    executor="local",
  )
  assert summary.num_done == 6
  assert "do not start" in console.file.getvalue()
  assert "FileExistsError" in console.file.getvalue()
  assert "Going on with 1" in console.file.getvalue()


def test_workers_that_do_not_start_end_the_sweep(
  write_config, run_toy, tmp_path
):
  with pytest.raises(errors.RunError, match=r"do not start.*no_such_module"):
    run_toy(
      write_config(SIX),
      tmp_path / "out",
      runner="no_such_module:run",
      executor="local",
    )


def test_a_diverged_point_is_a_result(write_config, run_toy, tmp_path):
  config = write_config(
    """product(grid("optimizer.learning_rate", [0.1, 1e3]), grid(seed=[0]))"""
  )
  summary = run_toy(config, tmp_path / "out")
  assert (summary.num_done, summary.num_diverged) == (1, 1)
  assert summary.exit_code == 0


def test_another_sweep_s_directory_is_refused(write_config, run_toy, tmp_path):
  out = tmp_path / "out"
  run_toy(write_config(SIX), out)
  before = results(out)
  other = write_config(TUNED, name="other")
  for options in ({}, {"dry_run": True}):
    with pytest.raises(errors.RunError, match=r"toy.py.*other.py"):
      run_toy(other, out, **options)
  with pytest.raises(errors.RunError, match="holds sweep"):
    run_toy(write_config(SIX), out, overrides={"train.num_steps": 5})
  assert results(out) == before


def test_a_corrupt_plan_is_made_anew(write_config, run_toy, tmp_path):
  config, out = write_config(SIX), tmp_path / "out"
  run_toy(config, out)
  plan = (out / "plan.json").read_text()
  (out / "plan.json").write_text(plan[:100])
  console = rich.console.Console(file=io.StringIO(), width=500)
  summary = run_toy(config, out, console=console)
  assert summary.num_ran == 0
  assert "plan.json is not valid JSON" in console.file.getvalue()
  assert (out / "plan.json").read_text() == plan


def test_overrides_reach_every_method(write_config, run_toy, tmp_path):
  out = tmp_path / "out"
  run_toy(
    write_config(SIX),
    out,
    overrides={"train.num_steps": 2, "optimizer.learning_rate": 0.2},
  )
  assert {result["steps"] for result in results(out).values()} == {2}
  plan = json.loads((out / "plan.json").read_text())
  assert plan["config"]["train"]["num_steps"] == 2
  # An option of a component must survive a method that brings another one.
  assert {
    point["overrides"]["optimizer.learning_rate"] for point in plan["points"]
  } == {0.2}
  # A report's command says them.
  assert plan["overrides"]["train.num_steps"] == 2


def test_bad_input_is_refused_before_anything_is_written(
  write_config, run_toy, tmp_path
):
  out = tmp_path / "out"
  config = write_config(SIX)
  for options, message in [
    ({"overrides": {"toy.name": "c"}}, "'toy.name' has no effect"),
    ({"overrides": {"seed": 3}}, "'seed' has no effect"),
    ({"overrides": {"toy.nam": "c"}}, "unknown config key 'toy.nam'"),
    ({"overrides": {"toy": {}}}, "as a whole"),
    ({"workers": 0}, "workers >= 1"),
    ({"retries": -1}, "retries >= 0"),
  ]:
    with pytest.raises(errors.UserError, match=message):
      run_toy(config, out, **options)
  with pytest.raises(errors.UserError, match=r"learning_rate' has no effect"):
    run_toy(
      write_config(TUNED, name="tuned"),
      out,
      overrides={"optimizer.learning_rate": 1.0},
    )
  with pytest.raises(errors.UserError, match="unknown config key 'toy.nmae'"):
    run_toy(write_config("grid('toy.nmae', ['a'])", name="typo"), out)
  assert not out.exists()
  out.write_text("a file")
  with pytest.raises(errors.RunError, match="cannot write"):
    run_toy(config, out)


def test_a_directory_that_cannot_be_made(write_config, run_toy, tmp_path):
  config = write_config(SIX)
  with pytest.raises(errors.RunError, match="cannot write"):
    run_toy(config, config / "out")


def test_a_full_disk_is_said(write_config, run_toy, tmp_path, monkeypatch):
  def full(*arguments, **facts):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(directory.Attempts, "add", full)
  with pytest.raises(errors.RunError, match="No space left on device"):
    run_toy(write_config(SIX), tmp_path / "out")


def test_dry_run_lists_and_writes_nothing(write_config, run_toy, tmp_path):
  asked = []
  console = rich.console.Console(file=io.StringIO(), width=200)

  def estimate(config):
    # The points are there before anything is compiled, and each program as
    # soon as it is.
    said = console.file.getvalue()
    assert "24 points" in said
    assert said.count("compiled in 3.0 s") == len(asked)
    asked.append(config.toy.name)
    return {
      "num_params": 1_000_000,
      "optimizer_state_bytes": 8_000_000,
      "flops_per_step": 2.5e9,
      "step_s": 0.5,
      "compile_s": 3.0,
    }

  config = write_config(TUNED)
  summary = run_toy(
    config,
    tmp_path / "out",
    dry_run=True,
    estimate=estimate,
    console=console,
  )
  assert not (tmp_path / "out").exists()
  assert sorted(asked) == ["a", "bb"]
  said = console.file.getvalue()
  for point in summary.plan.points:
    assert point.run_id in said
  # Memory: 8 bytes per parameter and the optimizer's 8 MB.
  for text in ("1,000,000", "> 16 MB", "8 MB", "2.5", "500"):
    assert text in said
  # 24 runs of 4 steps of 0.5 s and two compilations, on two workers.
  assert (
    "24 points (12 of them follow the tuning), 0 of them over; 2 programs"
    in said
  )
  assert (
    "Budget: 5 tuning trials per method and final seed, 10 per method, 20 in"
    " all."
  ) in said
  assert (
    "Simulated error (runs of a small decoder): with 2 equal methods, n = "
    in said
  )
  assert "about 27 s on 2 workers" in said
  console.file.truncate(0)
  options = {"dry_run": True, "compiles": False, "methods": "bb"}
  run_toy(config, tmp_path / "out", console=console, **options)
  assert "12 points (6 of them follow the tuning)" in console.file.getvalue()
  assert "compiled" not in console.file.getvalue()


def test_a_terminal_gets_a_live_table(
  write_config, run_toy, tmp_path, monkeypatch
):
  monkeypatch.setattr(progress, "REFRESH_S", 0.05)
  console = rich.console.Console(
    file=io.StringIO(), force_terminal=True, width=100
  )
  config = write_config(SIX, step_s=0.03)
  summary = run_toy(config, tmp_path / "out", console=console, executor="local")
  assert summary.num_done == 6
  said = console.file.getvalue()
  assert "[6/6]" in said
  assert "ETA" in said
