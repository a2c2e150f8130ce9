"""A real sweep: killed at random moments, failing, resumed, reported."""

import os
import random
import signal
import subprocess
import time

import pytest

from normjax.record import files
from tests import support

SWEEP = '''
"""Two norms, two seeds{title}."""
from normjax import configure
from normjax.sweep import Sweep, chain, grid, point

def get_config():
  return configure.override(configure.load("configs/default.py"), {overrides})

def sweep():
  return Sweep(methods={methods}, seeds=(1, 2))
'''
NORMS = 'grid("norm.name", ("rms_norm", "layer_norm"))'


def _write(path, methods=NORMS, **changes):
  overrides = {**support.DECODER, "train.num_steps": 20, **changes}
  path.write_text(SWEEP.format(title="", overrides=overrides, methods=methods))
  return path


def _results(out):
  """What must not depend on how often the sweep was stopped."""
  found = {}
  for path in sorted(out.glob("runs/*")):
    result = files.read_json(path / files.RESULT)
    found[path.name] = (
      result["state"],
      result["metrics"],
      support.rows(path, "train"),
      support.rows(path, "eval"),
    )
  return found


@pytest.mark.slow
def test_killed_at_five_random_moments_it_ends_as_if_never_killed(tmp_path):
  # Long enough that every kill finds work under way.
  long = {"train.num_steps": 2000, "checkpoint.every_steps": 50}
  long |= {"evaluate.every_steps": 500, "log.every_steps": 100}
  config = _write(tmp_path / "sweep.py", **long)
  straight = support.normjax(
    "sweep", str(config), f"--out={tmp_path / 'straight'}"
  )
  assert straight.returncode == 0, straight.stderr
  want = _results(tmp_path / "straight")
  assert len(want) == 4
  again = support.normjax(
    "sweep", str(config), f"--out={tmp_path / 'straight'}"
  )
  assert again.returncode == 0, again.stderr
  assert _results(tmp_path / "straight") == want

  generator = random.Random(0)
  for _ in range(5):
    process = subprocess.Popen(
      support.command("sweep", str(config), f"--out={tmp_path / 'killed'}"),
      cwd=support.ROOT,
      env=support.environment(),
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
      start_new_session=True,
    )
    time.sleep(generator.uniform(1.0, 7.0))
    assert process.poll() is None, "over before it could be killed"
    # The whole group, as when a machine goes away.
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
  last = support.normjax("sweep", str(config), f"--out={tmp_path / 'killed'}")
  assert last.returncode == 0, last.stderr
  assert _results(tmp_path / "killed") == want


TUNED = """
from normjax import configure
from normjax.sweep import Sweep, Tune, grid

def get_config():
  return configure.override(configure.load("configs/default.py"), {overrides})

def sweep():
  return Sweep(
    methods=grid("norm.name", ("rms_norm", "layer_norm")), seeds=(1, 2),
    tune=Tune({{"optimizer.learning_rate": [0.01, 0.03]}}, repeat="shared",
              max_extensions=0, second_pass=False))
"""
NUM_TRIALS = 4


@pytest.mark.slow
def test_killed_within_checkpoints_and_between_the_stages(tmp_path):
  """Two launchers share the points; one is killed, then the other."""
  long = {"train.num_steps": 60, "checkpoint.every_steps": 3}
  long |= {"evaluate.every_steps": 20, "log.every_steps": 10}
  config = tmp_path / "sweep.py"
  config.write_text(TUNED.format(overrides={**support.MLP, **long}))
  done = support.normjax("sweep", str(config), f"--out={tmp_path / 'straight'}")
  assert done.returncode == 0, done.stderr
  want = _results(tmp_path / "straight")
  assert len(want) == 8
  out = tmp_path / "killed"

  def half_checkpoints():
    return list(out.glob("runs/*/ckpt/*orbax-checkpoint-tmp*"))

  def are_trials_over():
    return len(list(out.glob("runs/*/result.json"))) >= NUM_TRIALS

  num_half = 0
  for moment in (half_checkpoints, half_checkpoints, are_trials_over,
                 half_checkpoints):  # fmt: skip
    launchers = [
      subprocess.Popen(
        support.command("sweep", str(config), f"--out={out}", "--workers=1"),
        cwd=support.ROOT,
        env=support.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
      )
      for _ in range(2)
    ]
    deadline_s = time.monotonic() + 300
    while not moment():
      assert time.monotonic() < deadline_s
      assert None in [each.poll() for each in launchers], "over before the kill"
      time.sleep(0.001)
    for each in launchers:
      each.kill()
      each.wait()
    num_half += bool(half_checkpoints())
  assert num_half, "no checkpoint was cut off"
  last = support.normjax("sweep", str(config), f"--out={out}")
  assert last.returncode == 0, last.stderr
  assert _results(out) == want


FAILING = (
  'chain(point({"norm.name": "rms_norm"}), point({"model.num_heads": 3}))'
)


def test_a_failing_point_is_reported_and_the_rest_goes_on(tmp_path):
  """Heads that do not divide fail; one worker compiles once."""
  config = _write(tmp_path / "sweep.py", FAILING, **{"train.num_steps": 4})
  out = f"--out={tmp_path / 'out'}"
  done = support.normjax("sweep", str(config), out, "--workers=1")
  assert done.returncode == 1
  assert "a divisor of half of model_dim=16" in done.stdout
  table = (tmp_path / "out/report/table.md").read_text()
  assert "0 of 2" in table or "failed" in table
  assert len(list((tmp_path / "out").glob("runs/*/result.json"))) == 2


def test_dry_run_says_what_it_would_cost_and_writes_nothing(tmp_path):
  config = _write(tmp_path / "sweep.py")
  done = support.normjax(
    "sweep", str(config), f"--out={tmp_path / 'out'}", "--dry_run"
  )
  assert done.returncode == 0, done.stderr
  assert "4" in done.stdout
  assert "program" in done.stdout
  assert "What it can decide: " in done.stdout
  assert not (tmp_path / "out").exists()
