"""What a sweep tells in a log, where nobody draws a table."""

import io
import types

import pytest
import rich.console

from normjax.record.directory import RunState, SweepDirectory
from normjax.sweep import progress, schedule
from normjax.sweep.plan import Point

POINTS = [Point(f"id{i}", "final", "dyt", {}, i, "p") for i in range(4)]


@pytest.fixture
def show(tmp_path):
  """Progress over four points, and the lines that it has printed."""
  file = io.StringIO()
  made = progress.Progress(tmp_path, rich.console.Console(file=file), 1)
  made.begin(
    types.SimpleNamespace(
      plan=types.SimpleNamespace(metric="eval/loss"),
      num_over=lambda: 0,
      num_chosen=lambda: 4,
      chosen=lambda: POINTS,
    )
  )
  made.lines = lambda: file.getvalue().splitlines()
  return made


def _launcher(pending, running):
  return types.SimpleNamespace(
    pending=pending,
    timings=schedule.Timings({"p": [30.0]}, {}),
    running=lambda: running,
    progress=lambda: [schedule.Running("p", 10.0, False) for _ in running],
  )


def test_each_line_has_an_eta_but_the_last(show):
  show.tick(_launcher(POINTS[2:], POINTS[1:2]))
  for point in POINTS:
    show.over(point, {"state": "done", "metrics": {"eval/loss": 2.5}}, 30.0)
  assert show.lines()[0] == ("[1/4] dyt seed 0: eval/loss 2.5 (30 s), ETA 80 s")
  assert show.lines()[-1] == "[4/4] dyt seed 3: eval/loss 2.5 (30 s)"


def test_a_long_point_is_told_of_meanwhile(show, monkeypatch, tmp_path):
  run = SweepDirectory(tmp_path).run("id1")
  run.write_status(RunState.RUNNING, step=30, num_steps=90, loss=2.25)
  launcher = _launcher(POINTS[2:], POINTS[1:2])
  show.tick(launcher)
  assert show.lines() == []
  monkeypatch.setattr(progress, "LINE_S", 0.0)
  show.tick(launcher)
  assert show.lines() == ["[0/4] ETA 80 s: dyt seed 1 at step 30/90, loss 2.25"]


def test_a_fault_is_told_once_however_many_points_it_hits(show):
  for again in (True, False):
    for point in POINTS:
      show.failed(point, f"no file runs/{point.run_id}/x.", again)
  assert show.lines() == [
    "dyt seed 0: failed: no file runs/id0/x; tried again later",
    "dyt seed 0: failed so again; given up",
  ]


def test_a_target_that_was_not_reached_says_so(show):
  show._plan.metric = "steps_to(eval/loss<=2)"
  show.over(POINTS[0], {"state": "done", "metrics": {}}, 1.0)
  assert "steps_to(eval/loss<=2) not reached" in show.lines()[0]
