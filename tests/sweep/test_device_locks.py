"""Two launchers of one machine, and its GPUs: files, and no driver."""

import fcntl
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from normjax import errors
from normjax.sweep import device_locks, devices
from normjax.sweep.executor import NoRoomError
from tests.sweep.test_devices import SWEEP, TWO

LISTED = devices._listed
SHARE = devices.Share(("GPU-aa", "GPU-bb"))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
  """Of the locks; no user's word on memory."""
  for name in (*devices._FRACTIONS, "SLURM_JOB_ID"):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setattr(devices, "_listed", list)
  path = tmp_path / "gpus"
  monkeypatch.setattr(device_locks, "_FOLDER", path)
  return path


@pytest.fixture
def launcher():
  """Makes groups as a launcher has them, and closes them."""
  made = []

  def make(share=SHARE):
    made.append(device_locks.Groups(share))
    return made[-1]

  yield make
  for each in made:
    each.close()


def sees(groups, slot):
  environment, held = groups.take(slot)
  assert held
  return environment[devices.VISIBLE]


def test_what_one_has_another_does_not_get(launcher):
  first, second, third = launcher(), launcher(), launcher()
  assert sees(first, 0) == "GPU-aa"
  assert sees(second, 0) == "GPU-bb"
  with pytest.raises(NoRoomError) as raised:
    third.take(0)
  said = str(raised.value)
  by = f"in use by another launcher, process {os.getpid()} on"
  assert f"GPU GPU-aa is {by} {socket.gethostname()}; GPU GPU-bb is" in said
  # A worker that is started anew has the launcher's own again.
  first.give_back(0)
  with pytest.raises(NoRoomError):
    third.take(0)
  assert sees(first, 0) == "GPU-aa"
  first.close()
  assert sees(third, 1) == "GPU-aa"


def test_alone_each_worker_has_its_own(launcher):
  alone = launcher(devices.Share(tuple("01234"), gpus_per_worker=2))
  assert [sees(alone, slot) for slot in (0, 1)] == ["0,1", "2,3"]
  shared = launcher(devices.Share(("8", "9"), workers_per_gpu=2))
  assert [sees(shared, slot) for slot in range(4)] == ["8", "9", "8", "9"]
  shared.give_back(1)
  assert sees(shared, 1) == "9"
  assert launcher(devices.Share()).take(0) == ({}, ())


def test_a_group_is_taken_whole_or_not(launcher):
  other = launcher(devices.Share(("1",)))
  other.take(0)
  pairs = launcher(devices.Share(tuple("0123"), gpus_per_worker=2))
  assert sees(pairs, 0) == "2,3"
  assert sees(launcher(devices.Share(("0",))), 0) == "0"


def test_workers_that_share_a_gpu_stay_on_their_launcher_s(launcher):
  other = launcher()
  other.take(0)
  shared = launcher(devices.Share(("GPU-aa", "GPU-bb"), workers_per_gpu=2))
  assert [sees(shared, slot) for slot in (0, 1)] == ["GPU-bb", "GPU-bb"]
  with pytest.raises(NoRoomError, match="GPU-aa is in use"):
    shared.take(2)


def test_who_says_a_part_of_the_memory_shares(launcher, monkeypatch):
  whole = launcher()
  whole.take(0)
  monkeypatch.setenv(devices.FRACTION, "0.4")
  first, second = launcher(), launcher()
  assert sees(first, 0) == sees(second, 0) == "GPU-bb"
  monkeypatch.delenv(devices.FRACTION)
  with pytest.raises(NoRoomError, match=f"{devices.FRACTION} in both shares"):
    launcher().take(1)


def test_workers_of_a_killed_launcher_are_waited_for(launcher, folder):
  process = subprocess.Popen(["true"])
  process.wait()
  folder.mkdir()
  path = folder / "GPU-aa.lock"
  path.write_text(
    json.dumps({"pid": process.pid, "host": socket.gethostname()})
  )
  left = os.open(path, os.O_RDWR)
  fcntl.flock(left, fcntl.LOCK_EX)
  timer = threading.Timer(0.3, os.close, (left,))
  timer.start()
  began_s = time.monotonic()
  assert sees(launcher(devices.Share(("GPU-aa",))), 0) == "GPU-aa"
  assert 0.1 < time.monotonic() - began_s < device_locks._PATIENCE_S
  timer.join()


HOLDS = """
import os, subprocess, sys
from normjax.sweep import device_locks, devices
from pathlib import Path
device_locks._FOLDER = Path(sys.argv[1])
devices._listed = list
_, held = device_locks.Groups(devices.Share(("GPU-aa",))).take(0)
worker = subprocess.Popen(["sleep", "60"], pass_fds=held)
print(worker.pid, flush=True)
os._exit(0)
"""


def test_a_gpu_is_free_when_the_last_worker_is_gone(
  launcher, folder, monkeypatch
):
  monkeypatch.setattr(device_locks, "_PATIENCE_S", 0.2)
  process = subprocess.Popen(
    [sys.executable, "-c", HOLDS, str(folder)],
    env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    stdout=subprocess.PIPE,
    text=True,
  )
  worker = int(process.stdout.readline())
  process.wait()
  one = launcher(devices.Share(("GPU-aa",)))
  with pytest.raises(NoRoomError, match=f"process {process.pid} on"):
    one.take(0)
  os.kill(worker, 9)
  monkeypatch.setattr(device_locks, "_PATIENCE_S", 10.0)
  assert sees(one, 0) == "GPU-aa"
  process.stdout.close()


def test_jobs_of_a_cluster_may_each_have_a_gpu_0(launcher, monkeypatch):
  one = devices.Share(("0",))
  monkeypatch.setenv("SLURM_JOB_ID", "7")
  launcher(one).take(0)
  monkeypatch.setenv("SLURM_JOB_ID", "8")
  launcher(one).take(0)
  with pytest.raises(NoRoomError):
    launcher(one).take(0)


def test_a_folder_that_cannot_be_used_stops_nobody(launcher, folder, caplog):
  folder.mkdir()
  (folder / "GPU-aa.lock").symlink_to(folder / "elsewhere")
  (folder / "GPU-bb.lock").mkdir()
  with caplog.at_level(logging.WARNING):
    groups = launcher()
    seen = [groups.take(slot) for slot in (0, 1)]
  assert seen == [(SHARE.environment(0), ()), (SHARE.environment(1), ())]
  assert "nothing keeps other launchers from GPU GPU-aa" in caplog.text
  assert not (folder / "elsewhere").exists()


def test_no_link_is_followed(launcher, folder, tmp_path, caplog):
  """Anybody may lay one in /tmp, to have files made elsewhere."""
  (tmp_path / "home").mkdir()
  folder.symlink_to(tmp_path / "home")
  with caplog.at_level(logging.WARNING):
    assert launcher().take(0) == (SHARE.environment(0), ())
  assert "Not a directory; nothing keeps" in caplog.text
  assert not list((tmp_path / "home").iterdir())


def test_sweeps_at_the_same_time(
  launcher,
  smi,
  write_config,
  run_toy,
  tmp_path,
  monkeypatch,
):
  """A second one goes on with what is left; with nothing it says why."""
  monkeypatch.setattr(devices, "_listed", LISTED)
  smi(TWO)
  monkeypatch.syspath_prepend(str(tmp_path))
  (tmp_path / "seeing_runner.py").write_text(
    "import os, toy_runner\n"
    "def run(config, directory):\n"
    "  result = toy_runner.run(config, directory)\n"
    "  (directory / 'sees').write_text(os.environ['CUDA_VISIBLE_DEVICES'])\n"
    "  return result\n"
  )
  other = launcher()
  other.take(0)
  config, out = write_config(SWEEP), tmp_path / "out"
  options = {"runner": "seeing_runner:run", "executor": "local"}
  summary = run_toy(config, out, workers=None, **options)
  assert summary.exit_code == 0
  seen = {path.read_text() for path in out.glob("runs/*/sees")}
  assert seen == {"GPU-bb"}
  other.take(1)
  with pytest.raises(
    errors.RunError, match="do not start: GPU GPU-aa is in use by another"
  ):
    run_toy(config, tmp_path / "second", workers=None, **options)
