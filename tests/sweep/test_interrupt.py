"""Sweeps that are interrupted or killed: nothing is lost, nobody stays."""

import json
import random
import signal
import time

import psutil
import pytest
from toy_runner import logs, results

SWEEP = """Sweep(
  methods=grid("toy.name", ["a", "bb"]), seeds=(0, 1),
  tune=Tune({"optimizer.learning_rate": log_grid(0.01, 1.0, 3)},
            repeat="shared", second_pass=False))"""
STUBBORN = """[{"toy.trouble": "stubborn", "toy.step_s": 60.0, "seed": s}
  for s in range(2)]"""
STEP_S = 0.05
# Far more than anything here needs; a hang must not pass for slowness.
PATIENCE_S = 60.0


def workers_of(process):
  """The workers of a sweep, also after its end: they name their parent."""
  name = f"--parent={process.pid}"
  found = []
  for each in psutil.process_iter():
    try:
      alive = each.status() != psutil.STATUS_ZOMBIE
      if alive and name in each.cmdline():
        found.append(each)
    except psutil.NoSuchProcess:
      pass
  return found


def wait_for(condition):
  deadline_s = time.monotonic() + PATIENCE_S
  while not condition():
    assert time.monotonic() < deadline_s
    time.sleep(0.02)


def has_begun(out, num_runs=1):
  return lambda: (
    sum(any("begin" in x for x in log) for log in logs(out).values())
    >= num_runs
  )


def test_killed_at_five_random_moments(
  write_config, run_toy, start_toy, tmp_path
):
  config = write_config(SWEEP, step_s=STEP_S)
  straight = tmp_path / "straight"
  run_toy(config, straight)
  out = tmp_path / "killed"
  draw = random.Random(0)
  # From before the first worker to the last stage: of ten runs, four.
  for num_begun in (0, 1, 3, 7, 9):
    process = start_toy(config, out)
    wait_for(has_begun(out, num_begun))
    time.sleep(draw.uniform(0.0, 4 * STEP_S))
    process.kill()
    process.wait(PATIENCE_S)
  process = start_toy(config, out)
  output, _ = process.communicate(timeout=PATIENCE_S)
  assert process.returncode == 0, output
  assert results(out) == results(straight)
  assert (out / "plan.json").read_text() == (straight / "plan.json").read_text()
  begun = sum(lines.count("begin") for lines in logs(out).values())
  assert begun > len(results(out))  # so some point was killed on its way


def test_a_killed_sweep_leaves_no_workers(write_config, start_toy, tmp_path):
  process = start_toy(write_config(STUBBORN), tmp_path / "out")
  wait_for(has_begun(tmp_path / "out", num_runs=2))
  assert len(workers_of(process)) == 2
  process.kill()
  process.wait(PATIENCE_S)
  wait_for(lambda: not workers_of(process))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_goes_on_where_it_was(
  write_config, run_toy, start_toy, tmp_path, number
):
  config = write_config(SWEEP, step_s=0.1)
  out = tmp_path / "out"
  process = start_toy(config, out)
  wait_for(has_begun(out, num_runs=4))
  time.sleep(0.05)  # into the fourth run's first step
  process.send_signal(number)
  output, _ = process.communicate(timeout=PATIENCE_S)
  assert process.returncode == 130
  assert "interrupted; the same command goes on from here" in output
  assert not workers_of(process)
  assert any("interrupted" in lines for lines in logs(out).values())
  num_before = len(results(out))
  summary = run_toy(config, out)
  assert (summary.num_done, summary.num_ran) == (10, 10 - num_before)
  steps = [line for lines in logs(out).values() for line in lines
           if line.startswith("step")]  # fmt: skip
  # A step that an interruption cut short may come twice, no other.
  assert len(steps) <= 10 * 4 + 2
  assert all("failed" not in line for line in attempts(out))


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_signal_that_is_ignored_at_the_start_stays_ignored(
  write_config, start_toy, tmp_path, number
):
  """As under `nohup`, or after `trap '' TERM`, for the workers too."""
  out = tmp_path / "out"
  config = write_config("grid(seed=range(4))", step_s=0.2)
  process = start_toy(config, out, ignoring=(number,))
  wait_for(has_begun(out, num_runs=2))
  for each in workers_of(process):
    each.send_signal(number)
  process.send_signal(number)
  _, said = process.communicate(timeout=PATIENCE_S)
  assert process.returncode == 0, said
  assert len(results(out)) == 4
  assert all(lines.count("begin") == 1 for lines in logs(out).values())


def test_workers_hear_the_sweep_whatever_they_ignore(
  write_config, start_toy, tmp_path
):
  out = tmp_path / "out"
  config = write_config("grid(seed=range(2))", step_s=30.0)
  process = start_toy(
    config, out, ignoring=(signal.SIGHUP, signal.SIGTERM), grace_s=600
  )
  wait_for(has_begun(out, num_runs=2))
  time.sleep(0.1)
  process.send_signal(signal.SIGINT)
  process.communicate(timeout=PATIENCE_S / 3)
  assert process.returncode == 130
  assert all("interrupted" in lines for lines in logs(out).values())


def attempts(out):
  return (out / "attempts.jsonl").read_text().splitlines()


def test_workers_that_do_not_listen_are_killed_after_the_grace(
  write_config, start_toy, tmp_path
):
  process = start_toy(write_config(STUBBORN), tmp_path / "out", grace_s=0.5)
  wait_for(has_begun(tmp_path / "out", num_runs=2))
  time.sleep(0.1)  # from the log's line to the handler
  process.send_signal(signal.SIGINT)
  process.communicate(timeout=PATIENCE_S / 3)
  assert process.returncode == 130
  assert not workers_of(process)


def test_a_second_signal_ends_the_workers_at_once(
  write_config, start_toy, tmp_path
):
  process = start_toy(write_config(STUBBORN), tmp_path / "out", grace_s=600)
  wait_for(has_begun(tmp_path / "out", num_runs=2))
  time.sleep(0.1)
  process.send_signal(signal.SIGINT)
  with pytest.raises(Exception, match="timed out"):
    process.wait(2.0)  # it waits for its workers
  process.send_signal(signal.SIGINT)
  process.communicate(timeout=PATIENCE_S / 3)
  assert process.returncode == 130
  assert not workers_of(process)
  booked = attempts(tmp_path / "out")
  assert len(booked) == 2
  assert all('"interrupted"' in line for line in booked)


def test_a_worker_killed_from_outside_is_replaced(
  write_config, start_toy, tmp_path
):
  out = tmp_path / "out"
  process = start_toy(write_config(SWEEP, step_s=0.1), out)
  wait_for(has_begun(out, num_runs=2))
  workers_of(process)[0].kill()
  output, _ = process.communicate(timeout=PATIENCE_S)
  assert process.returncode == 0, output
  assert len(results(out)) == 10
  failed = [line for line in attempts(out) if '"failed"' in line]
  assert len(failed) == 1
  assert "killed by SIGKILL" in failed[0]


def test_two_launchers_run_no_point_twice(write_config, start_toy, tmp_path):
  config, out = write_config(SWEEP, step_s=0.02), tmp_path / "out"
  both = [start_toy(config, out, workers=1) for _ in range(2)]
  said = [process.communicate(timeout=PATIENCE_S) for process in both]
  assert [process.returncode for process in both] == [0, 0], said
  assert len(results(out)) == 10
  assert all(lines.count("begin") == 1 for lines in logs(out).values())
  # Each counts its own, and no attempt is lost.
  ran = [json.loads(output.splitlines()[-1])["ran"] for output, _ in said]
  assert sum(ran) == 10
  assert all(ran)
  assert sorted(attempts_at(out)) == sorted(results(out))
  assert not any((out / "leases").iterdir())


def attempts_at(out):
  return [json.loads(line)["run_id"] for line in attempts(out)]


def test_the_points_of_a_launcher_that_was_killed_are_free_at_once(
  write_config, start_toy, tmp_path
):
  config, out = write_config(SWEEP, step_s=0.1), tmp_path / "out"
  first = start_toy(config, out)
  wait_for(has_begun(out, num_runs=2))
  second = start_toy(config, out)
  time.sleep(0.3)
  first.kill()
  output, _ = second.communicate(timeout=PATIENCE_S / 2)
  assert second.returncode == 0, output
  assert len(results(out)) == 10
