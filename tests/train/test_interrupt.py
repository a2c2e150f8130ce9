"""A run that is asked to end saves first, and goes on bit for bit."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from normjax import cli, configure, errors, stopping, train
from normjax.record import files, lock
from normjax.train.processes import folders
from tests import support


def _asked_at(config, directory, *event):
  """Runs until a signal comes at an event."""

  def observe(*seen):
    if seen == event:
      os.kill(os.getpid(), signal.SIGTERM)

  with stopping.interruptible(), pytest.raises(KeyboardInterrupt):
    train.run(config, directory, observe)
  assert files.read_json(directory / files.STATUS)["state"] == "interrupted"
  return sorted(int(p.name) for p in (directory / "ckpt").iterdir())


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
  """The config, and the folder of a run that was never stopped."""
  config = support.tiny({"log.every_steps": 2})
  directory = tmp_path_factory.mktemp("straight")
  train.run(config, directory)
  return config, directory


@pytest.mark.parametrize(
  ("event", "newest"),
  [
    (("step", 5), 6),  # The step is finished; 6 is no multiple of 4.
    (("step", 7), 8),  # Due to be evaluated and saved in any case.
    (("evaluate", 4), 4),  # The evaluation is left, and made anew.
    (("save", 8), 8),
    (("step", 11), 12),  # Nothing is left to do but to evaluate.
  ],
)
def test_a_signal_saves_and_the_run_goes_on_bitwise(
  straight, tmp_path, event, newest
):
  config, directory = straight
  assert _asked_at(config, tmp_path, *event)[-1] == newest
  result = train.run(config, tmp_path)
  assert files.read_json(tmp_path / files.RUN)["resumed_at_steps"] == [newest]
  want = files.read_json(directory / files.RESULT)
  assert result["metrics"] == want["metrics"]
  for kind in ("train", "eval"):
    assert support.rows(tmp_path, kind) == support.rows(directory, kind)


def test_a_run_without_checkpoints_ends_all_the_same(straight, tmp_path):
  config = support.tiny({"checkpoint.every_steps": 0})
  with stopping.interruptible(), pytest.raises(KeyboardInterrupt):
    train.run(
      config,
      tmp_path,
      lambda *event: event == ("step", 3) and os.kill(os.getpid(), 15),
    )
  assert not (tmp_path / files.CHECKPOINTS).exists()
  assert len(support.rows(tmp_path, "train")) == 4


def test_a_result_is_a_result_though_a_signal_came(straight, tmp_path):
  config, _ = straight

  def observe(*event):
    if event == ("save", 12):
      stopping.ask()

  with stopping.interruptible():
    assert train.run(config, tmp_path, observe)["state"] == "done"


HOLD = (
  "import pathlib, sys, time; from normjax.record import lock\n"
  "with lock.held(pathlib.Path(sys.argv[1]), 'run'):"
  " print('held', flush=True); time.sleep(600)"
)


def test_two_trainers_in_one_folder(straight, tmp_path):
  config, _ = straight
  other = subprocess.Popen(
    [sys.executable, "-c", HOLD, str(tmp_path)],
    stdout=subprocess.PIPE,
    env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
  )
  assert other.stdout.readline() == b"held\n"
  with pytest.raises(
    errors.RunError, match=f"in use by another run: process {other.pid} on"
  ):
    train.run(config, tmp_path)
  assert sorted(os.listdir(tmp_path)) == [".lock"]
  # A lock of a dead process is free, however it died.
  other.kill()
  other.communicate()
  assert train.run(config, tmp_path)["state"] == "done"
  # What is over needs no lock.
  with lock.held(tmp_path, "run"):
    assert train.run(config, tmp_path)["state"] == "done"


def test_a_file_system_without_locks(tmp_path, monkeypatch, caplog):
  def flock(*arguments):
    raise OSError(38, "Function not implemented")

  monkeypatch.setattr(lock.fcntl, "flock", flock)
  with lock.held(tmp_path, "run"):
    assert "has no locks (Function not implemented)" in caplog.text


def test_another_run_s_files_copied_in(straight, tmp_path):
  """Neither its result nor its checkpoints are taken for this one's."""
  _, directory = straight
  other = support.tiny({"log.every_steps": 2, "seed": 5})
  want = train.run(other, tmp_path / "want")
  mixed = tmp_path / "mixed"
  mixed.mkdir()
  shutil.copytree(directory / "ckpt", mixed / "ckpt")
  shutil.copy(directory / files.RESULT, mixed)
  assert train.run(other, mixed)["metrics"] == want["metrics"]
  problems = files.read_json(mixed / files.RUN)["problems"]
  assert "checkpoint 12 is of run" in problems[0]
  assert "result.json was not this run's" in problems[-1]
  kept = json.loads((mixed / "result.json.corrupt").read_text())
  assert kept == json.loads((directory / files.RESULT).read_text())


def _tree(folder):
  """Each file with its content and its time."""
  return {
    path: (path.read_bytes(), path.stat().st_mtime_ns)
    for path in folder.rglob("*")
    if path.is_file()
  }


@pytest.mark.parametrize("is_over", [True, False])
def test_another_run_s_directory_is_refused(straight, tmp_path, is_over):
  config, directory = straight
  folder = tmp_path / "run"
  if is_over:
    shutil.copytree(directory, folder)
  else:
    _asked_at(config, folder, "step", 5)
  before = _tree(folder)
  other = support.tiny({"log.every_steps": 2, "seed": 5})
  state = "done" if is_over else "interrupted"
  with pytest.raises(
    errors.RunError,
    match=rf"run holds another run, \w+ \({state}\), than this one, \w+: seed"
    r" was 0, is 5\. .* give another folder \(--out\)",
  ):
    train.run(other, folder)
  assert _tree(folder) == before
  # The run whose it is goes on as ever, to the same result.
  wanted = files.read_json(directory / files.RESULT)
  assert train.run(config, folder)["metrics"] == wanted["metrics"]


def test_of_two_that_begin_together_one_has_the_directory(
  straight, tmp_path, monkeypatch
):
  """The other run may begin between the first look and the lock."""
  _, directory = straight
  other = support.tiny({"log.every_steps": 2, "seed": 5})
  take = folders.take

  def late(runs, locks):
    shutil.copytree(directory, tmp_path / "run")
    take(runs, locks)

  monkeypatch.setattr(folders, "take", late)
  with pytest.raises(errors.RunError, match="holds another run"):
    train.run(other, tmp_path / "run")
  theirs = files.read_json(directory / files.RUN)
  assert files.read_json(tmp_path / "run" / files.RUN) == theirs


def test_the_command_ends_with_2_in_another_run_s_folder(
  straight, tmp_path, capsys
):
  """As where a folder was copied under the name of this run."""
  _, directory = straight
  other = {**support.DECODER, "log.every_steps": 2, "seed": 5}
  run_id = configure.run_id(support.tiny(other))
  shutil.copytree(directory, tmp_path / run_id)
  before = _tree(tmp_path)
  command = ["train", "configs/default.py", f"--out={tmp_path}"]
  assert cli.main([*command, *support.flags(other)]) == 2
  assert "seed was 0, is 5. Nothing of it was" in capsys.readouterr().err
  assert _tree(tmp_path) == before
