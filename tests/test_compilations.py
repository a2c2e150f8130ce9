"""Programs that the tests keep between runs."""

import os
import subprocess
import sys

from tests import compilations, support

PROGRAM = """
import sys
from pathlib import Path
import jax
from tests import compilations

hits = []
jax.monitoring.register_event_listener(
  lambda event, **_: hits.append(event.endswith("/cache_hits"))
)
with compilations.kept(Path(sys.argv[1])):
  print(jax.jit(lambda x: x * 3 + 1)(2.0), sum(hits))
"""


def test_a_second_process_takes_what_the_first_has_compiled(tmp_path):
  def run():
    done = subprocess.run(
      [sys.executable, "-c", PROGRAM, str(tmp_path / "pool")],
      cwd=support.ROOT,
      env=support.environment() | {"PYTHONPATH": str(support.ROOT)},
      capture_output=True,
      text=True,
    )
    assert done.returncode == 0, done.stderr
    pool = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "pool").iterdir()}
    return done.stdout.split(), pool

  (result, hits), first = run()
  assert (result, hits) == ("7.0", "0")
  assert any(name.startswith("jit__lambda") for name in first)
  (result, hits), second = run()
  assert result == "7.0"
  assert int(hits) > 0
  assert second == first


def test_ci_keeps_nothing(monkeypatch, tmp_path):
  monkeypatch.setenv("NORMJAX_CACHE", str(tmp_path))
  monkeypatch.setenv("CI", "true")
  assert compilations.pool() is None
  monkeypatch.delenv("CI")
  assert compilations.pool().is_relative_to(tmp_path)


def test_other_processors_have_a_pool_of_their_own(monkeypatch):
  monkeypatch.delenv("CI", raising=False)
  before = compilations.pool()
  monkeypatch.setattr(compilations, "_processor", lambda: "another")
  assert compilations.pool() != before


def test_the_oldest_go_where_there_are_too_many(monkeypatch, tmp_path):
  monkeypatch.setattr(compilations, "MOST_BYTES", 100)
  for age in range(12):
    (tmp_path / str(age)).write_bytes(b"0123456789")
    os.utime(tmp_path / str(age), (1000 - age, 1000 - age))
  compilations._prune(tmp_path)
  assert {path.name for path in tmp_path.iterdir()} == set("01234")
