"""Whose a point is: takeovers, clocks that jump, file systems that forget."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from normjax import errors
from normjax.record import files, heartbeat, holders, lease
from normjax.record.directory import RunDirectory, RunState
from normjax.record.heartbeat import Launcher, Observer
from tests import support


class Clock:
  """Monotonic seconds that a test moves."""

  def __init__(self):
    self.now_s = 100.0

  def __call__(self):
    return self.now_s


@pytest.fixture
def leases(tmp_path):
  """Makes launchers of this process on one sweep."""
  made = []

  def make(host=""):
    made.append(lease.Leases(tmp_path).__enter__())
    if host:  # As another machine's would be seen from here.
      move(tmp_path, made[-1], host)
    return made[-1]

  yield make
  for each in made:
    end(each)


def end(own):
  """Ends a launcher in order; once."""
  if not own._heart._ended.is_set():
    own.__exit__()


def move(out, own, host):
  """Lets a launcher be of another machine."""
  own._heart.launcher = moved = Launcher(
    own.launcher.token, host, "its boot", own.launcher.pid, 0.0
  )
  own._heart._beat()
  return moved


def watch(own, clock):
  own._observer = Observer(own._folder, expiry_s=60.0, clock=clock)


def beat(own):
  own._heart._beat()


def test_one_has_it_until_it_gives_it_back(leases):
  a, b = leases(), leases()
  assert a.take("r") is None
  assert a.take("r") is None  # Again: it is tried anew.
  assert b.take("r").launcher == a.launcher
  assert b.holder("r").launcher == a.launcher
  a.release("r")
  assert b.holder("r") is None
  assert b.take("r") is None
  assert a.take("r").launcher == b.launcher
  assert (a.holds("r"), b.holds("r")) == (False, True)
  b.forget("r")
  assert not list(a._folder.glob("r.*"))


def test_what_one_gives_up_no_other_tries_as_long_as_it_works(leases):
  a, b = leases(), leases()
  a.take("r")
  a.release("r", given_up="no such data")
  assert (b.take("r").word, b.holder("r").message) == (
    lease.Word.GIVEN_UP,
    "no such data",
  )
  end(a)
  assert b.take("r") is None


def test_another_machine_s_lease_ends_when_it_was_seen_still_long_enough(
  leases,
):
  clock = Clock()
  a, b = leases(host="far"), leases()
  watch(b, clock)
  assert a.take("r") is None
  assert b.take("r") is not None
  for _ in range(30):  # Whoever counts on has it for ever.
    clock.now_s += 10.0
    beat(a)
    assert b.take("r") is not None
  for _ in range(6):
    clock.now_s += 10.0
    assert b.take("r") is not None
  clock.now_s += 10.0
  assert b.take("r") is None
  a._look()
  assert a.lost() == {"r": lease.newest(a._folder, "r")}
  assert a.lost() == {}


def test_time_in_which_it_did_not_look_does_not_count(leases):
  """A launcher that was stopped, or whose disk hung, accuses nobody."""
  clock = Clock()
  a, b = leases(host="far"), leases()
  watch(b, clock)
  a.take("r")
  for _ in range(3):
    assert b.take("r") is not None
    clock.now_s += 3600.0
  assert b.take("r") is not None


@pytest.mark.parametrize("jump_s", [-1e6, 1e6])
def test_no_wall_clock_is_asked(leases, monkeypatch, jump_s):
  clock = Clock()
  a, b = leases(host="far"), leases()
  watch(b, clock)
  a.take("r")
  assert b.take("r") is not None
  real = time.time
  monkeypatch.setattr(time, "time", lambda: real() + jump_s)
  beat(a)
  for _ in range(7):
    clock.now_s += 10.0
    os.utime(a._heart.path, (real() + jump_s, real() + jump_s))
    assert b.take("r") is not None
  clock.now_s += 11.0
  assert b.take("r") is None


HOLDER = """
import pathlib, subprocess, sys, time
from normjax.record import lease
with lease.Leases(pathlib.Path(sys.argv[1])) as leases:
  leases.take("r")
  worker = subprocess.Popen(["sleep", "60"], pass_fds=[leases.descriptor])
  print(worker.pid, flush=True)
  time.sleep(60)
"""


def test_a_process_of_this_machine_that_died_is_gone_at_once(tmp_path, leases):
  """But not before its workers are, which inherit its lock."""
  b = leases()
  process = subprocess.Popen(
    [sys.executable, "-c", HOLDER, str(tmp_path)],
    stdout=subprocess.PIPE,
    text=True,
    env={**support.environment(), "PYTHONPATH": str(support.ROOT)},
  )
  worker = int(process.stdout.readline())
  assert b.take("r").launcher.pid == process.pid
  process.kill()
  process.wait()
  assert b.take("r").launcher.pid == process.pid
  os.kill(worker, signal.SIGKILL)
  deadline_s = time.monotonic() + 10
  while b.take("r") is not None:
    assert time.monotonic() < deadline_s
    time.sleep(0.01)
  process.stdout.close()


def test_a_pid_that_came_back_is_nobody_s(tmp_path, leases):
  """The lock tells, not the number."""
  b = leases()
  dead = Launcher("0" * 16, b.launcher.host, b.launcher.boot, os.getpid(), 0.0)
  (b._folder / f"{dead.token}.launcher").write_text("{}")
  lease._write(b._folder, "r", 1, dead, lease.Word.HELD)
  assert b.take("r") is None


def test_who_was_taken_over_writes_no_result(tmp_path, leases, monkeypatch):
  clock = Clock()
  a, b = leases(host="far"), leases()
  watch(b, clock)
  run = RunDirectory(tmp_path / "runs" / "r", "r")
  monkeypatch.setenv(lease.VARIABLE, a.launcher.token)
  a.take("r")
  run.write_status(RunState.RUNNING, step=1)
  for _ in range(8):
    b.take("r")
    clock.now_s += 10.0
  assert b.holds("r")
  with pytest.raises(errors.LostLeaseError, match="taken over by process"):
    run.write_status(RunState.RUNNING, step=2)
  with pytest.raises(errors.LostLeaseError, match="r was taken over"):
    run.write_result(RunState.DONE, steps=4, metrics={})
  run.write_status(RunState.FAILED, step=2)  # Last words are not its own.
  assert run.read_status().value["step"] == 1
  monkeypatch.setenv(lease.VARIABLE, b.launcher.token)
  run.write_result(RunState.DONE, steps=4, metrics={})
  # And while it is written, nobody takes it over any more.
  assert lease.newest(b._folder, "r").number == 3


def _expired(a, b, clock):
  """Has b take a for gone; what it read of it last."""
  watch(b, clock)
  a.take("r")
  for _ in range(7):
    assert b.take("r") is not None
    clock.now_s += 10.0
  return lease.newest(a._folder, "r")


def _read_late(monkeypatch, stale):
  """Lets the next who looks see a lease that was the last one before."""
  last, late = lease.newest, [stale]
  monkeypatch.setattr(
    lease, "newest", lambda *x: late.pop() if late else last(*x)
  )


def test_a_worker_that_confirms_is_a_sign_of_life(
  tmp_path, leases, monkeypatch
):
  """It is about to write the result, though its launcher is still."""
  clock = Clock()
  a, b = leases(host="far"), leases()
  stale = _expired(a, b, clock)
  monkeypatch.setenv(lease.VARIABLE, a.launcher.token)
  lease.confirm(tmp_path / "runs" / "r")
  _read_late(monkeypatch, stale)
  assert b.take("r").number == 2
  for _ in range(7):
    assert b.take("r") is not None
    clock.now_s += 10.0
  assert b.take("r") is None


def test_nothing_is_left_of_a_run_that_ended_meanwhile(leases, monkeypatch):
  """Not even by who took it over while another removed what there was."""
  a, b = leases(), leases()
  a.take("r")
  a.release("r")
  stale = lease.newest(a._folder, "r")
  b.forget("r")
  _read_late(monkeypatch, stale)
  assert b.take("r") is None
  assert [p.name for p in a._folder.glob("r.*")] == ["r.3"]
  b.forget("r")
  assert not list(a._folder.glob("r.*"))


def test_a_result_that_is_there_stays(tmp_path):
  run = RunDirectory(tmp_path / "runs" / "r", "r")
  first = run.write_result(RunState.DONE, steps=4, metrics={"loss": 1.0})
  again = run.write_result(RunState.DONE, steps=4, metrics={"loss": 2.0})
  assert again == first == run.read_result().value


def test_a_run_of_no_launcher_asks_nobody(tmp_path, leases, monkeypatch):
  leases().take("r")
  monkeypatch.delenv(lease.VARIABLE, raising=False)
  run = RunDirectory(tmp_path / "runs" / "r", "r")
  assert run.write_result(RunState.DONE, steps=4, metrics={})["steps"] == 4


# ----- File systems -----


@pytest.fixture
def nfs(monkeypatch):
  """A server's answers to `link`, each in place of the true one."""
  answers, link = [], os.link

  def answered(*names):
    answer = answers.pop(0) if answers else "made"
    if answer in ("made", "made, and the answer lost"):
      link(*names)
    if answer == "made, and the answer lost":  # The client asks again.
      raise FileExistsError(errno.EEXIST, "File exists")
    if isinstance(answer, int):
      raise OSError(answer, os.strerror(answer))

  monkeypatch.setattr(files.os, "link", answered)
  return answers


def test_an_answer_that_was_lost_is_no_refusal(nfs, leases):
  a, b = leases(), leases()
  nfs.append("made, and the answer lost")
  assert a.take("r") is None
  assert a.holds("r")
  assert b.take("r").launcher == a.launcher
  assert sorted(p.name for p in a._folder.glob("*r.*")) == ["r.1"]


def test_without_hard_links_the_name_decides(nfs, leases):
  a, b = leases(), leases()
  nfs += [errno.EOPNOTSUPP, errno.EPERM, errno.EPERM]
  assert a.take("r") is None
  assert b.take("r").launcher == a.launcher
  a.release("r")
  assert b.take("r") is None
  assert not nfs


def test_a_full_disk_is_said_with_the_file(nfs, leases):
  a = leases()
  nfs.append(errno.ENOSPC)
  with pytest.raises(OSError, match="No space left") as caught:
    a.take("r")
  assert caught.value.filename.endswith("leases/r.1")
  assert a.take("r") is None


def test_of_two_that_take_over_at_once_one_gets_it(leases, monkeypatch):
  """Each has seen the dead one last; names that are new come late."""
  a, b, c = leases(host="far"), leases(), leases()
  a.take("r")
  clock = Clock()
  for each in (b, c):
    watch(each, clock)
  for _ in range(7):
    assert b.take("r") is not None
    assert c.take("r") is not None
    clock.now_s += 10.0
  last, stale = lease.newest, [lease.newest(a._folder, "r")] * 2
  monkeypatch.setattr(
    lease, "newest", lambda *x: stale.pop() if stale else last(*x)
  )
  assert b.take("r") is None
  assert c.take("r").launcher == b.launcher


def test_half_a_lease_is_waited_for_like_any(leases):
  a = leases()
  clock = Clock()
  watch(a, clock)
  (a._folder / "r.1").write_text('{"launcher": {"to')
  for _ in range(7):
    assert a.take("r").launcher is None
    clock.now_s += 10.0
  assert a.take("r") is None


def test_without_locks_the_process_tells(leases, monkeypatch):
  def flock(*arguments):
    raise OSError(errno.ENOLCK, "No locks available")

  a, b = leases(), leases()
  a.take("r")
  monkeypatch.setattr(heartbeat.fcntl, "flock", flock)
  assert b.take("r").launcher == a.launcher
  monkeypatch.setattr(heartbeat.lock, "is_alive", lambda pid: False)
  assert b.take("r") is None


def test_the_end_leaves_nothing_held(tmp_path, leases):
  with lease.Leases(tmp_path) as a:
    a.take("r")
    a.take("s")
    observer = holders.observe(tmp_path)
    assert set(holders.by_run(tmp_path, observer)) == {"r", "s"}
    assert not holders.is_abandoned(tmp_path, observer)
  assert holders.by_run(tmp_path, observer) == {}
  assert holders.is_abandoned(tmp_path, observer)
  said = json.loads((tmp_path / "leases/r.2").read_text())
  assert said["word"] == "released"


def test_a_launcher_s_file_says_who_it_is(tmp_path, leases):
  a = leases()
  (found,) = heartbeat.launchers(tmp_path / "leases")
  assert found == a.launcher
  assert str(found) == f"process {os.getpid()} on {found.host}"
  (tmp_path / "leases" / "x.launcher").write_text("")
  assert heartbeat.launchers(tmp_path / "leases") == [found]


def test_a_launcher_whose_file_was_taken_away_knows_that_it_is_gone(
  tmp_path, leases
):
  """Others take its runs over; at its end it makes no folder anew."""
  a = leases()
  a.take("r")
  for moved in (True, False, True):
    names = "leases", "elsewhere"
    old, new = names if moved else reversed(names)
    (tmp_path / old).rename(tmp_path / new)
    assert a._heart._is_found() is not moved
    a.check_found()
  (tmp_path / "leases").mkdir()
  (tmp_path / "leases" / a._heart.path.name).write_text("another file")
  assert not a._heart._is_found()
  with pytest.raises(errors.RunError, match="the folder was moved, removed or"):
    a.check_found()
  end(a)
  assert not list((tmp_path / "leases").glob("r.*"))
