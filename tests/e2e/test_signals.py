"""A real run and a real sweep that are asked to end: saved, then resumed."""

import signal
import subprocess
import time

import pytest

from normjax.record import files
from tests import support

# Checkpoints are due at the ends alone: another one was the signal's.
LONG = {
  **support.DECODER,
  "train.num_steps": 3000,
  "checkpoint.every_steps": 100_000,
  "evaluate.every_steps": 100_000,
  "log.every_steps": 10,
}
SWEEP = """
from normjax import configure
from normjax.sweep import grid
def get_config():
  return configure.override(configure.load("configs/default.py"), {overrides})
def sweep():
  return grid(seed=[1, 2])
"""


def _start(*arguments):
  return subprocess.Popen(
    support.command(*arguments),
    cwd=support.ROOT,
    env=support.environment(),
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
  )


def _wait_for_rows(process, out, pattern):
  deadline_s = time.monotonic() + 120
  while time.monotonic() < deadline_s:
    if any(p.stat().st_size > 5000 for p in out.glob(pattern)):
      return
    assert process.poll() is None, process.stderr.read()
    time.sleep(0.01)
  raise AssertionError("no rows within two minutes")


def _found(out):
  return {
    path.parent.name: (
      files.read_json(path)["metrics"],
      support.rows(path.parent, "train"),
    )
    for path in out.rglob(files.RESULT)
  }


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "sweep"])
def test_a_signal_saves_and_the_same_command_goes_on(tmp_path, command):
  if command == "train":
    arguments = ["configs/default.py", *support.flags(LONG)]
    pattern = "*/metrics.jsonl"
  else:
    (tmp_path / "sweep.py").write_text(SWEEP.format(overrides=LONG))
    arguments = [str(tmp_path / "sweep.py"), "--workers=1"]
    pattern = "runs/*/metrics.jsonl"
  straight, out = tmp_path / "straight", tmp_path / "out"
  done = support.normjax(command, *arguments, f"--out={straight}")
  assert done.returncode == 0, done.stderr
  process = _start(command, *arguments, f"--out={out}")
  _wait_for_rows(process, out, pattern)
  process.send_signal(signal.SIGTERM)
  _, said = process.communicate(timeout=60)
  assert process.returncode == 130, said
  steps = [int(p.name) for p in out.rglob("ckpt/*") if p.name.isdigit()]
  assert any(step % 100_000 for step in steps), steps
  again = support.normjax(command, *arguments, f"--out={out}")
  assert again.returncode == 0, again.stderr
  assert _found(out) == _found(straight)
