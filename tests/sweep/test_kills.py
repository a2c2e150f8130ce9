"""A hundred SIGKILLs over one sweep: nothing is lost, nothing is done twice."""

import collections
import json
import random
import time

import pytest
from test_interrupt import PATIENCE_S
from toy_runner import logs, results

NUM_KILLS = 100
NUM_FINAL_KILLS = 25  # From the end of the trials on.
NUM_TRIALS = 20
STEP_S = 0.02
OVERRIDES = {"train.num_steps": 60}
# Of 24 points; the four final ones follow when all trials are over.
SWEEP = """Sweep(
  methods=grid("toy.name", ["a", "bb"]), seeds=(0, 1),
  tune=Tune({"optimizer.learning_rate": log_grid(0.01, 1.0, 3)}))"""


def num_begun(out):
  return sum(lines.count("begin") for lines in logs(out).values())


def wait_until(condition, process):
  deadline_s = time.monotonic() + PATIENCE_S
  while not condition():
    assert process.poll() is None, process.communicate()
    assert time.monotonic() < deadline_s
    time.sleep(0.005)


@pytest.mark.slow
def test_a_hundred_kills(write_config, start_toy, run_toy, tmp_path):
  config, out = write_config(SWEEP, step_s=STEP_S), tmp_path / "out"
  draw = random.Random(0)
  kills = collections.Counter()

  def kill(process, moment):
    assert process.poll() is None, process.communicate()
    process.kill()
    process.communicate(timeout=PATIENCE_S)
    kills[moment] += 1

  def start(count):
    return [
      start_toy(config, out, workers=1, overrides=OVERRIDES)
      for _ in range(count)
    ]

  while kills.total() < NUM_KILLS:
    begun, over = num_begun(out), len(results(out))
    # A launcher alone, or two that share the points.
    running = start(2 if kills.total() % 3 else 1)
    moment = draw.choice(["start", *["point"] * 6, "result"])
    if kills.total() >= NUM_KILLS - NUM_FINAL_KILLS and over < NUM_TRIALS:
      moment = "between the stages"
    if moment == "start":
      time.sleep(draw.uniform(0.0, 0.4))
    elif moment == "between the stages":
      wait_until(lambda: len(results(out)) >= NUM_TRIALS, running[0])
    elif moment == "result" and over < NUM_TRIALS // 2:
      wait_until(lambda: len(results(out)) > over, running[0])  # noqa: B023
    else:
      wait_until(lambda: num_begun(out) > begun, running[0])  # noqa: B023
      time.sleep(draw.uniform(0.0, 5 * STEP_S))
    for process in running:
      kill(process, moment)
      time.sleep(draw.choice([0.0, 2 * STEP_S]))
  assert kills["between the stages"]
  assert NUM_TRIALS <= len(results(out)) < 24
  process = start_toy(config, out, overrides=OVERRIDES)
  said, _ = process.communicate(timeout=2 * PATIENCE_S)
  assert process.returncode == 0, said
  straight = tmp_path / "straight"
  run_toy(config, straight, overrides=OVERRIDES, executor="local")
  assert results(out) == results(straight)
  assert len(results(out)) == 24
  plans = [json.loads((x / "plan.json").read_text()) for x in (out, straight)]
  assert plans[0] == plans[1]
  booked = map(json.loads, (out / "attempts.jsonl").read_bytes().splitlines())
  done = collections.Counter(
    row["run_id"] for row in booked if row["state"] == "done"
  )
  assert max(done.values()) == 1
