"""Killed at any moment and resumed, a run gives the same bits."""

import os
import signal
import subprocess
import time

import pytest

from normjax import configure
from normjax.record import files
from tests import support

CASES = {
  "decoder with dropout": {
    **support.DECODER,
    "model.dropout_rate": 0.2,
    "train.num_steps": 40,
    "train.accumulation_steps": 2,
  },
  "resnet with batch_norm": {**support.RESNET, "train.num_steps": 24},
}


def _start(out, overrides):
  return subprocess.Popen(
    support.command(
      "train",
      "configs/default.py",
      f"--out={out}",
      *support.flags(overrides),
    ),
    cwd=support.ROOT,
    env=support.environment(),
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
  )


def _wait_for_checkpoint(process, directory, step):
  deadline = time.monotonic() + 120
  while time.monotonic() < deadline:
    if (directory / files.CHECKPOINTS / str(step)).is_dir():
      return
    assert process.poll() is None, process.stderr.read().decode()
    time.sleep(0.002)
  raise AssertionError(f"no checkpoint {step} within two minutes")


@pytest.mark.parametrize(
  ("name", "at_steps"),
  [
    ("decoder with dropout", (4,)),
    # A second kill, and another model, take a process each and show little.
    pytest.param("decoder with dropout", (4, 12), marks=pytest.mark.slow),
    pytest.param("resnet with batch_norm", (4, 12), marks=pytest.mark.slow),
  ],
)
def test_killed_and_resumed_is_bitwise_never_killed(tmp_path, name, at_steps):
  overrides = CASES[name]
  config = configure.override(configure.load("configs/default.py"), overrides)
  straight = tmp_path / "straight" / configure.run_id(config)
  killed = tmp_path / "killed" / configure.run_id(config)
  _, stderr = (process := _start(straight.parent, overrides)).communicate()
  assert process.returncode == 0, stderr.decode()

  for step in at_steps:
    process = _start(killed.parent, overrides)
    _wait_for_checkpoint(process, killed, step)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (killed / files.RESULT).exists(), "ended before it was killed"
  _, stderr = (process := _start(killed.parent, overrides)).communicate()
  assert process.returncode == 0, stderr.decode()

  for kind in ("train", "eval"):
    want = support.rows(straight, kind)
    assert want
    assert support.rows(killed, kind) == want
  first, second = (
    files.read_json(path / files.RESULT) for path in (straight, killed)
  )
  assert first["metrics"] == second["metrics"]
  resumed = files.read_json(killed / files.RUN)["resumed_at_steps"]
  assert len(resumed) == len(at_steps)
  assert all(step >= 4 for step in resumed)
