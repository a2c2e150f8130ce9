"""What becomes of a cache that is damaged, full, or filled twice."""

import os
import signal
import subprocess
import sys
import time

import pytest

from normjax import errors
from normjax.data import cache


def _write(text):
  def prepare(draft):
    (draft / "part").mkdir()
    (draft / "part/a.txt").write_text(text)

  return prepare


def _truncate(folder):
  (folder / "part/a.txt").write_text("fir")


def _lose(folder):
  (folder / "part/a.txt").unlink()


def _unmark(folder):
  (folder / "complete").unlink()


def _half_mark(folder):
  (folder / "complete").write_text('{"part/a.t')


@pytest.mark.parametrize("damage", [_truncate, _lose, _unmark, _half_mark])
def test_a_broken_entry_is_made_again(empty_cache, damage):
  folder = cache.entry("name", _write("first"))
  damage(folder)
  assert cache.entry("name", _write("second")) == folder
  assert (folder / "part/a.txt").read_text() == "second"
  assert cache.entry("name", _write("third")) == folder
  assert (folder / "part/a.txt").read_text() == "second"


def test_an_entry_is_open_to_those_whom_the_umask_lets_in(empty_cache):
  umask = os.umask(0o022)
  try:
    folder = cache.entry("name", _write("first"))
  finally:
    os.umask(umask)
  assert folder.stat().st_mode & 0o777 == 0o755


def test_a_killed_preparation_is_taken_over(empty_cache):
  code = (
    "import time\nfrom normjax.data import cache\n"
    "def prepare(draft):\n"
    "  (draft / 'half').write_text('x')\n"
    "  print('ready', flush=True)\n"
    "  time.sleep(60)\n"
    "cache.entry('name', prepare)\n"
  )
  process = subprocess.Popen(
    [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
  )
  with process:
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGKILL)
  assert list(empty_cache.glob(".name.draft-*"))
  folder = cache.entry("name", _write("whole"))
  assert (folder / "part/a.txt").read_text() == "whole"
  assert not (folder / "half").exists()
  assert not list(empty_cache.glob(".name.draft-*"))


def test_a_cache_that_cannot_be_written_says_so(tmp_path, monkeypatch):
  (tmp_path / "file").touch()
  monkeypatch.setenv("NORMJAX_CACHE", str(tmp_path / "file"))
  with pytest.raises(errors.DataError, match="NORMJAX_CACHE") as raised:
    cache.entry("name", _write("x"))
  assert str(tmp_path / "file") in str(raised.value)


def test_no_space_left_says_so(empty_cache):
  def full(draft):
    raise OSError(28, "No space left on device")

  with pytest.raises(errors.DataError, match="No space left.*NORMJAX_CACHE"):
    cache.entry("name", full)


def test_two_processes_prepare_an_empty_cache_once(empty_cache):
  code = (
    "import sys, time\nfrom normjax import data\n"
    "from normjax.data import preparation\n"
    "prepare = preparation._prepare\n"
    "def noted(*args):\n"
    "  print('prepared', flush=True)\n"
    "  prepare(*args)\n"
    "preparation._prepare = noted\n"
    "time.sleep(max(0, float(sys.argv[1]) - time.time()))\n"
    "print(data.make('digits').provenance['sha256'])\n"
  )
  # Both have imported what they need, and begin at one moment.
  start = str(time.time() + 3)
  processes = [
    subprocess.Popen(
      [sys.executable, "-c", code, start],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for _ in range(2)
  ]
  outputs = [process.communicate(timeout=60) for process in processes]
  assert [p.returncode for p in processes] == [0, 0], outputs
  lines = [out.split() for out, _ in outputs]
  assert sorted(map(len, lines)) == [1, 2]
  assert lines[0][-1] == lines[1][-1]
