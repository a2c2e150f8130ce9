import subprocess
import sys
from pathlib import Path

import pytest

from normjax.data import cache


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
  monkeypatch.setenv("NORMJAX_CACHE", str(tmp_path / "cache"))
  return tmp_path / "cache"


def _fill(draft):
  (draft / "value").write_text("whole")


def test_an_entry_is_prepared_once():
  calls = []
  for _ in range(2):
    folder = cache.entry("a/b", lambda draft: calls.append(1) or _fill(draft))
    assert (folder / "value").read_text() == "whole"
  assert calls == [1]


def test_a_half_written_entry_is_made_again(empty_cache):
  half = empty_cache / "a" / "b"
  half.mkdir(parents=True)
  (half / "value").write_text("ha")
  folder = cache.entry("a/b", _fill)
  assert folder == half
  assert (folder / "value").read_text() == "whole"


def test_a_failed_preparation_leaves_nothing(empty_cache):
  def fail(draft):
    _fill(draft)
    raise RuntimeError("no more")

  with pytest.raises(RuntimeError, match="no more"):
    cache.entry("a/b", fail)
  left = [path.name for path in (empty_cache / "a").iterdir()]
  assert left == [".b.lock"]
  assert cache.entry("a/b", _fill).is_dir()


def test_two_processes_at_once_prepare_once(tmp_path, empty_cache):
  program = """
import sys, time
from pathlib import Path
from normjax.data import cache
def prepare(draft):
  with open(sys.argv[1], "a") as log:
    log.write("prepared\\n")
  time.sleep(0.5)
  (draft / "value").write_text("whole")
print((cache.entry("a/b", prepare) / "value").read_text())
"""
  log = tmp_path / "log"
  processes = [
    subprocess.Popen(
      [sys.executable, "-c", program, str(log)],
      stdout=subprocess.PIPE,
      text=True,
    )
    for _ in range(2)
  ]
  outputs = [process.communicate(timeout=60)[0] for process in processes]
  assert outputs == ["whole\n", "whole\n"]
  assert log.read_text() == "prepared\n"


def test_where_the_cache_is(monkeypatch, tmp_path):
  monkeypatch.setenv("NORMJAX_CACHE", "/somewhere")
  assert cache.cache_dir() == Path("/somewhere")
  monkeypatch.delenv("NORMJAX_CACHE")
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  assert cache.cache_dir() == tmp_path / "normjax"
  monkeypatch.delenv("XDG_CACHE_HOME")
  assert cache.cache_dir() == Path.home() / ".cache" / "normjax"
