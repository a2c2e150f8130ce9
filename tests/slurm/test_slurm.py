"""Sweeps on a real SLURM: requeued, out of time, cancelled, left behind."""

import json
import signal
import threading
import time

import pytest

from tests.sweep.conftest import HERE  # First: it makes the next one found.

from toy_runner import logs, results  # isort: skip

pytestmark = pytest.mark.slow
assert HERE
PATIENCE_S = 400.0
DONE = ["done"]


@pytest.fixture(autouse=True)
def impatient(slurm):
  """A requeued job waits for two minutes, unless it is told to start now."""
  is_over = threading.Event()

  def hurry():
    while not is_over.wait(1.0):
      queue = slurm("squeue", "--noheader", "--format=%i|%T|%r")
      for job, state, reason in (x.split("|") for x in queue.splitlines()):
        if (state, reason) == ("PENDING", "BeginTime"):
          slurm("scontrol", "update", f"JobId={job}", "StartTime=now")

  thread = threading.Thread(target=hurry)
  thread.start()
  yield
  is_over.set()
  thread.join()


def wait_for(condition, process=None):
  deadline_s = time.monotonic() + PATIENCE_S
  while not condition():
    assert time.monotonic() < deadline_s
    assert process is None or process.poll() is None, process.communicate()
    time.sleep(0.2)


def name_of(config):
  """A run's method and seed: "a0"."""
  return f"{config['toy']['name']}{config['seed']}"


def attempts(out):
  """The ends of each run's attempts, in order, by its name."""
  rows = map(json.loads, (out / "attempts.jsonl").read_text().splitlines())
  ends = {}
  for row in rows:
    run = json.loads((out / "runs" / row["run_id"] / "run.json").read_text())
    ends.setdefault(name_of(run["config"]), []).append(row["state"])
  return ends


def log_of(out, name):
  """The log of a run, empty before it begins."""
  for path in out.glob("runs/*/run.json"):
    if name_of(json.loads(path.read_text())["config"]) == name:
      return logs(out)[path.parent.name]
  return []


def job_of(out, name):
  """The job that has begun a run last."""
  found = []
  for answers in out.glob("slurm/*/*/answers.jsonl"):
    began = [x for x in answers.read_text().splitlines() if "Began" in x]
    (script,) = answers.parent.glob("*_submission.sh")
    run_id = began[-1].partition('run_id\\": \\"')[2][:12] if began else ""
    run = out / "runs" / run_id / "run.json"
    if began and name_of(json.loads(run.read_text())["config"]) == name:
      found.append((answers.stat().st_mtime, script.name.partition("_")[0]))
  return max(found)[1]


def test_six_points(slurm, write_config, run_toy, start_toy, tmp_path):
  sweep = """[{"toy.name": n, "toy.trouble": t, "seed": s}
    for n, t in (("a", ""), ("b", "raise:1")) for s in range(3)]"""
  config = write_config(sweep, step_s=3.0)
  out = tmp_path / "out"
  process = start_toy(
    config, out, slurm={"time": "10", "partition": "main"}, workers=2
  )

  def at_step_1(*names):
    return lambda: all("step 1" in log_of(out, name) for name in names)

  # Of two jobs one is requeued by its owner, the other by a signal.
  wait_for(at_step_1("a0", "b0"), process)
  slurm("scontrol", "requeue", job_of(out, "a0"))
  slurm("scancel", "--signal=USR2", job_of(out, "b0"))
  # Someone cancels a job: its run is tried again in a new one.
  wait_for(at_step_1("a2"), process)
  slurm("scancel", job_of(out, "a2"))
  said, errors = process.communicate(timeout=PATIENCE_S)
  assert process.returncode == 0, said + errors
  straight = tmp_path / "straight"
  run_toy(write_config(sweep, name="straight"), straight)
  found = attempts(out)
  assert found["a0"] == ["interrupted", "done"]
  assert found["a2"] == ["failed", "done"]
  assert found["b0"] == ["failed", "interrupted", "done"]
  assert [found["b1"], found["b2"]] == [["failed", "done"]] * 2
  # Nothing was lost: a step that an interruption cut short may come twice.
  for log in logs(out).values():
    steps = [line for line in log if line.startswith("step")]
    assert sorted({*steps}) == [f"step {i}" for i in range(1, 5)]
    assert len(steps) <= 5
  losses = [
    sorted(r["metrics"]["eval/loss"] for r in results(each).values())
    for each in (out, straight)
  ]
  assert losses[0] == losses[1]
  wait_for(lambda: not slurm("squeue", "--noheader"))


def test_out_of_time(slurm, write_config, start_toy, tmp_path):
  """Runs that need more time than a job has, without a failed attempt."""
  out = tmp_path / "out"
  config = write_config("grid(seed=range(2))", step_s=25.0)
  process = start_toy(
    config,
    out,
    slurm={"time": "2", "signal_delay_s": 40},
    workers=2,
    retries=0,
  )
  said, errors = process.communicate(timeout=PATIENCE_S)
  assert process.returncode == 0, said + errors
  assert len(results(out)) == 2
  for ends in attempts(out).values():
    assert {*ends[:-1]} <= {"interrupted"}
    assert ends[-1] == "done"
  assert any("interrupted" in ends for ends in attempts(out).values())


def test_launchers_that_end(slurm, write_config, start_toy, tmp_path):
  """One is killed, the next is interrupted, the third ends the sweep."""
  out = tmp_path / "out"
  config = write_config("grid(seed=range(2))", step_s=2.0)

  def start(step):
    process = start_toy(config, out, slurm={}, workers=2)
    wait_for(lambda: all(step in log_of(out, s) for s in ("a0", "a1")), process)
    return process

  process = start("step 1")
  process.send_signal(signal.SIGKILL)
  process.wait()
  process = start("step 2")
  process.send_signal(signal.SIGINT)
  _, errors = process.communicate(timeout=PATIENCE_S)
  assert process.returncode == 130, errors
  assert "of a launcher that is gone; their runs go on in new ones" in errors
  assert not slurm("squeue", "--noheader", "--states=RUNNING,PENDING")
  _, errors = start("step 4").communicate(timeout=PATIENCE_S)
  assert "gone" not in errors
  assert [*attempts(out).values()] == [["interrupted", "done"]] * 2
  for log in logs(out).values():
    ends = [i for i, line in enumerate(log) if line == "interrupted"]
    assert [log[i + 1] for i in ends] == ["begin"] * 2
    assert len([line for line in log if line.startswith("step")]) == 4
