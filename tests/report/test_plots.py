"""Data of figures: probes by depth, the metric against state bytes."""

import pytest

from normjax.report import load, stats, verdicts
from normjax.report.figure import MAX_POINTS
from normjax.report.plots import curves, depth, intervals, memory
from normjax.statistics import noise_floor
from tests.report import conftest

SMALL = {
  "norms": {"layer_norm": 0.0},
  "optimizers": {"adamw": (0.0, 1e-3), "muon": (-0.09, 3e-3)},
  "seeds": (100, 101),
  "diverged": (),
  "trials": False,
}


def test_probes_by_depth_are_means_of_the_last_step(make_sweep):
  out = make_sweep(**SMALL)
  conftest.add_probes(out)
  sweep = load.load(out)
  (figure,) = depth.build(sweep, stats.summarize(sweep))
  panels = {panel.title: panel for panel in figure.panels}
  assert list(panels) == [
    "activation/layers/*/attention/rms",
    "gradient_norm/layers/*",
    # Of an activation's statistics the rms comes first.
    "activation/layers/*/attention/mean",
  ]
  # Depths are whole: so are ticks.
  assert {panel.ticks for panel in figure.panels} == {(0, 1, 2, 3)}
  for series in panels["gradient_norm/layers/*"].series:
    assert series.x == (0, 1, 2, 3)
    shifts = [conftest.noise(r.run_id) for r in sweep.finals(series.label)]
    assert len(shifts) == 2
    expected = [sum(1 / (d + 2 + s) for s in shifts) / 2 for d in range(4)]
    assert series.y == pytest.approx(expected)
  assert len(panels["gradient_norm/layers/*"].series) == 2


def test_the_noise_floor_is_of_the_baseline_alone(make_sweep):
  out = make_sweep(**(SMALL | {"seeds": (100, 101, 102, 103, 104)}))
  sweep = load.load(out)
  rows = stats.summarize(sweep)
  (figure,) = intervals.build(sweep, rows)
  means, differences = figure.panels
  floor = noise_floor(list(rows[0].values.values()))
  assert means.band is None
  assert differences.band.half_width == floor.half_width > 0
  assert "15 ways to take two sets of 2" in figure.caption
  assert "scaled to 5 seeds per side" in figure.caption
  # A marker is full where the verdict is decided.
  hollow = {row.label: row.hollow for row in differences.rows}
  assert rows[1].verdict == verdicts.BETTER
  assert not hollow["layer_norm+muon"]


@pytest.mark.parametrize(
  ("options", "why"),
  [
    (
      {"seeds": (100, 101, 102)},
      "it takes 4 seeds of the baseline, there are 3.",
    ),
    (
      {
        "seeds": (100, 101, 102, 103, 104),
        "diverged": [("layer_norm+adamw", 100, 50)],
      },
      "some of the baseline's diverged.",
    ),
  ],
)  # fmt: skip
def test_without_a_noise_floor_the_caption_says_why(make_sweep, options, why):
  sweep = load.load(make_sweep(**(SMALL | options)))
  rows = stats.summarize(sweep)
  (figure,) = intervals.build(sweep, rows)
  assert figure.panels[1].band is None
  assert f"No noise floor is drawn: {why}" in figure.caption
  # Undecided where the baseline diverged.
  first, _ = figure.panels[1].rows
  assert first.label == rows[1].label
  assert first.hollow == (rows[1].verdict != verdicts.BETTER)
  assert first.hollow == ("diverged" in options)


def test_the_metric_against_state_bytes(make_sweep):
  out = make_sweep(**SMALL)
  sweep = load.load(out)
  # Of one size: nothing to see.
  assert memory.build(sweep, stats.summarize(sweep)) == []
  sizes = {"adamw": 3_000_000, "muon": 1_500_000}
  conftest.set_state_bytes(out, lambda c: sizes[c["optimizer"]["name"]])
  sweep = load.load(out)
  rows = stats.summarize(sweep)
  (figure,) = memory.build(sweep, rows)
  points = {series.label: series for series in figure.panels[0].series}
  for row in rows:
    point = points[row.label]
    assert point.x == (sizes[row.method.overrides["optimizer.name"]] / 1e6,)
    assert point.y == (row.interval.mean,)
    assert (*point.low, *point.high) == (row.interval.low, row.interval.high)


def test_a_caption_says_that_lines_are_thinned(make_sweep):
  out = make_sweep(**SMALL)
  (figure,) = curves.by_step(load.load(out), ())
  assert "points are drawn" not in figure.caption
  (path, *_) = (out / "runs").glob("*/metrics.jsonl")
  with path.open("a") as file:
    for step in range(300, 300 + 2 * MAX_POINTS):
      file.write(
        f'{{"kind": "train", "step": {step}, "time_s": 1.0, "loss": 2.0}}\n'
      )
  (figure,) = curves.by_step(load.load(out), ())
  assert f"about {MAX_POINTS} points are drawn" in figure.caption
