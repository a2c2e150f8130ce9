"""Speed-ups and trends of ladders whose truth is known."""

import csv
import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
import scipy.stats

from normjax import errors, report
from normjax.record import rungs
from normjax.record.directory import RunState
from normjax.report import (
  ladder,
  ladder_table,
  load,
  resample,
  stats,
)
from normjax.report.figure import POINTS
from normjax.report.plots import ladder as plots
from tests.report import conftest, ladders


def noisy(seed: int, sd: float, shared: float = 0.0):
  """Noise of a run, of which a part is the same for all methods."""
  draw = np.random.default_rng(seed)
  drawn: dict = {}

  def noise(method, size, budget, run_seed):
    common = drawn.setdefault((size, budget, run_seed), draw.normal())
    own = math.sqrt(1 - shared**2) * draw.normal()
    return sd * (shared * common + own)

  return noise


FACTORS = {
  "adamw": ladders.same,
  "up": ladders.growing,
  "down": ladders.fading,
  "flat": ladders.steady,
}


def test_known_speed_ups_and_trends():
  found = ladder.analyse(ladders.record(FACTORS, noisy(0, 0.002, 0.7)))
  assert found.baseline == "adamw"
  for each in found.speedups:
    if each.method == "adamw":
      assert each.log is None
      assert not each.problem
      assert each.floor == pytest.approx(
        ladders.curve(each.size)(1e30), abs=0.05
      )
      continue
    truth = FACTORS[each.method](each.size, 100)
    assert math.exp(each.log.value) == pytest.approx(truth, rel=0.02)
    assert each.log.n == 3
    # The last budget times more than 1 is beyond what the baseline had.
    assert each.beyond == (400,)
  trends = {trend.method: trend for trend in found.trends}
  words = {method: trend.verdict for method, trend in trends.items()}
  assert words == {"up": "grows", "down": "fades", "flat": "stays"}
  slope = math.log(1.25) / math.log(4)
  assert trends["up"].slope.value == pytest.approx(slope, rel=0.05)
  # Holm: the smallest p-value counts for all three methods.
  smallest = min(trends.values(), key=lambda trend: trend.p_value)
  assert smallest.p_holm == pytest.approx(3 * smallest.p_value)


def test_the_baseline_may_have_budgets_of_its_own():
  record = ladders.record(
    {"adamw": ladders.same, "flat": ladders.steady},
    noisy(0, 0.002, 0.7),
    baseline_budgets=(800,),
  )
  found = ladder.analyse(record)
  base, flat = found.speedups[0], found.speedups[3]
  assert list(base.losses) == [100, 200, 400, 800]
  assert list(flat.losses) == [100, 200, 400]
  # Nothing is extrapolated any more.
  assert flat.beyond == ()
  assert math.exp(flat.log.value) == pytest.approx(1.4, rel=0.02)
  # Four losses do not lie on the curve exactly: how far off is said.
  assert 1e-6 < max(abs(math.log(f)) for f in base.factors.values()) < 0.02
  notes = "".join(ladder_table.build(record, found).notes)
  assert "Extrapolated" not in notes
  wrong = ladders.record(
    {"adamw": ladders.same, "flat": ladders.steady},
    lambda method, size, budget, seed: 0.05 * (budget == 400),
    baseline_budgets=(800,),
  )
  notes = "".join(ladder_table.build(wrong, ladder.analyse(wrong)).notes)
  assert (
    "The curve of adamw misses its own losses by a factor of up to" in notes
  )
  with_more = ladder_table.comma_separated(record, found).splitlines()
  assert "loss_800" in with_more[0]
  assert rungs.fits(rungs.to_json(record.rungs))
  assert ("Budgets of the baseline alone", "800 steps") in rungs.protocol(
    record.rungs
  )


def test_what_seeds_share_cancels():
  methods = {"adamw": ladders.same, "again": ladders.same}
  wide = ladder.analyse(ladders.record(methods, noisy(0, 0.02)))
  shared = ladder.analyse(ladders.record(methods, noisy(0, 0.02, 0.99)))

  def errors_of(found):
    return [each.log.error for each in found.speedups if each.log]

  assert np.mean(errors_of(shared)) < 0.4 * np.mean(errors_of(wide))


def test_with_wide_intervals_nothing_is_decided():
  found = ladder.analyse(ladders.record(FACTORS, noisy(3, 0.05)))
  assert {trend.verdict for trend in found.trends} == {"not decided"}


@pytest.mark.parametrize("value", [-0.2, 0.0, 0.05, 0.2])
def test_what_stays_is_told_from_the_margin_on_both_sides(value):
  margin, error, n = 0.1, 0.02, 5
  one_sided = (
    scipy.stats.t.sf((value + margin) / error, n - 1),
    scipy.stats.t.cdf((value - margin) / error, n - 1),
  )
  found = ladder._p_same(resample.Estimate(value, n, error), margin)
  assert found == pytest.approx(max(one_sided))
  assert (found < 0.05) == (abs(value) < margin)


def test_nothing_is_read_from_seeds_that_are_left():
  lost = ("adamw", "64", 400, 2)
  found = ladder.analyse(
    ladders.record(
      {"adamw": ladders.same, "up": ladders.growing},
      noisy(0, 0.002),
      diverged=[lost, ("up", "128", 100, 1), ("up", "128", 100, 3)],
    )
  )
  said = {(s.method, s.size): s for s in found.speedups}
  assert said["up", "32"].log is not None
  assert said["up", "64"].problem == (
    "the baseline adamw diverged 1 of 3 at 400 steps"
  )
  assert said["up", "128"].problem == "diverged 2 of 3 at 100 steps"
  assert said["adamw", "64"].losses[400] is None
  (trend,) = found.trends
  assert (trend.verdict, trend.slope) == ("not decided", None)
  assert "64: the baseline adamw diverged" in trend.problem


def test_a_loss_that_is_not_finite_is_divergence_here_too():
  methods = {"adamw": ladders.same, "up": ladders.growing}
  lost = ("up", "128", 100, 1)
  record = ladders.record(methods, noisy(0, 0.002), diverged=[lost])
  # It ran to its end, where the loss was NaN: null in result.json.
  runs = [
    dataclasses.replace(run, state=RunState.DONE)
    if run.state is RunState.DIVERGED
    else run
    for run in record.runs
  ]
  found = ladder.analyse(dataclasses.replace(record, runs=tuple(runs)))
  (said,) = (s for s in found.speedups if (s.method, s.size) == lost[:2])
  assert said.problem == "diverged 1 of 3 at 100 steps"
  assert said.losses[100] is None
  assert found.trends[0].verdict == "diverged"


def test_a_method_that_diverged_has_that_verdict():
  found = ladder.analyse(
    ladders.record(
      {"adamw": ladders.same, "up": ladders.growing},
      noisy(0, 0.002),
      diverged=[("up", "128", 100, 1)],
    )
  )
  (trend,) = found.trends
  assert trend.verdict == "diverged"
  (said,) = ladder_table.findings(found)
  assert "it diverged (no speed-up at 128: diverged 1 of 3 at 100" in said


def test_a_ladder_that_is_not_over():
  methods = {"adamw": ladders.same, "up": ladders.growing}
  every = itertools.product(methods, ladders.SIZES, ladders.BUDGETS, (1, 2, 3))
  nothing = ladder.analyse(ladders.record(methods, pending=list(every)))
  assert {s.problem for s in nothing.speedups} == {
    "no seed has all of its runs yet"
  }
  part = ladder.analyse(
    ladders.record(methods, noisy(0, 0.002), pending=[("up", "64", 200, 3)])
  )
  assert [s.log.n for s in part.speedups if s.log] == [3, 2, 3]
  assert part.trends[0].slope.n == 2


def test_one_seed_gives_no_interval():
  methods = {"adamw": ladders.same, "up": ladders.growing}
  found = ladder.analyse(ladders.record(methods, seeds=(1,)))
  up = [s for s in found.speedups if s.method == "up"]
  assert [s.log.low for s in up] == [None] * 3
  assert {s.problem for s in up} == {"one seed: no interval"}
  assert found.trends[0].verdict == "not decided"


def test_a_loss_that_the_baseline_never_has():
  def far(size, budget):
    del size, budget
    return 1e9  # Where the curve is at its floor, and noise goes below.

  methods = {"adamw": ladders.same, "far": far}
  record = ladders.record(
    methods, lambda method, *_: -0.1 if method == "far" else 0.0
  )
  found = ladder.analyse(record)
  problems = {s.problem for s in found.speedups if s.method == "far"}
  assert len(problems) == 1
  assert "the curve of adamw does not reach its loss" in problems.pop()
  assert "–" in ladder_table.build(record, found).rows[3][6].text


def test_rows_are_compared_at_their_own_rung_and_each_counts_once():
  sweep = ladders.record(FACTORS, noisy(0, 0.002))
  rows = {row.label: row for row in stats.summarize(sweep)}
  baselines = [r for r in rows.values() if r.verdict == "baseline"]
  assert len(baselines) == 9
  row = rows["up @ 128 x 100 steps"]
  own = np.mean([r.metric("eval/loss") for r in sweep.finals(row.label)])
  other = sweep.finals("adamw @ 128 x 100 steps")
  baseline = np.mean([r.metric("eval/loss") for r in other])
  assert row.difference.interval.mean == pytest.approx(own - baseline)
  tested = [r for r in rows.values() if r.difference]
  assert len(tested) == 27
  smallest = min(tested, key=lambda r: r.difference.p_value).difference
  assert smallest.p_holm == pytest.approx(27 * smallest.p_value)


SMALL = {"32": 20_000, "128": 320_000}


def test_the_report_of_a_folder(tmp_path, capsys):
  sweep = ladders.record(
    {"adamw": ladders.same, "muon": ladders.fading, "sinkgd": ladders.growing},
    noisy(0, 0.002),
    diverged=[("sinkgd", "128", 400, 2)],
    sizes=SMALL,
    baseline_budgets=(500,),
  )
  out = ladders.write(tmp_path / "out", sweep)
  assert ladder.analyse(load.load(out)) == ladder.analyse(sweep)
  paths = report.write_and_print(out)
  with (paths.csv.parent / "table_ladder.csv").open() as file:
    rows = list(csv.DictReader(file))
  assert [(row["method"], row["size"]) for row in rows] == [
    (method, size) for method in sweep.rungs.methods for size in SMALL
  ]
  muon = rows[2]
  assert float(muon["speedup"]) == pytest.approx(1.6, rel=0.02)
  assert muon["trend"] == "fades"
  assert float(muon["per_tenfold_params"]) < 1
  assert [muon[f"extrapolated_{b}"] for b in ladders.BUDGETS] == [
    "False", "False", "True"
  ]  # fmt: skip
  assert rows[5]["problem"] == "diverged 1 of 3 at 400 steps"
  assert rows[5]["speedup"] == ""
  page = paths.html.read_text()
  markdown = (paths.csv.parent / "table_ladder.md").read_text()
  printed = " ".join(capsys.readouterr().out.split())
  for text in (page, markdown, printed):
    assert "sinkgd at 128: diverged 1 of 3 at 400 steps." in text
    assert "Extrapolated: adamw would need" in text
  for text in (page, printed):
    assert "it fades with size" in text
    assert "adamw at the same size and budget, of 12 rows" in text
  # How the rows came about.
  assert "size 128, 200 steps" in page
  assert "3, each at 6 rungs, the baseline at 2 more" in page
  assert "Carried to other rungs, adamw, muon, sinkgd" in page
  # Each row with the baseline of its own rung.
  with paths.csv.open() as file:
    compared = {row["method"]: row["baseline"] for row in csv.DictReader(file)}
  assert compared["muon @ 32 x 100 steps"] == "adamw @ 32 x 100 steps"


def test_the_figures(tmp_path):
  methods = {"adamw": ladders.same, "muon": ladders.fading}
  sweep = ladders.record(
    methods, noisy(0, 0.002), diverged=[("muon", "128", 400, 2)]
  )
  found = ladder.analyse(sweep)
  speedups, losses = plots.build(sweep, found)
  (panel,) = speedups.panels
  marks = [series for series in panel.series if series.look == POINTS]
  assert [series.label for series in marks] == ["muon", "muon"]
  own = [s for s in found.speedups if s.method == "muon" and s.log]
  for mark, each in zip(marks, own, strict=True):
    ends = (*mark.low, *mark.y, *mark.high)
    log = each.log
    assert ends == pytest.approx(np.exp([log.low, log.value, log.high]))
  assert panel.ticks == (20, 80, 320)
  assert "thousands of parameters" in panel.x_label
  assert [panel.title for panel in losses.panels] == [
    "size 32", "size 64", "size 128",
  ]  # fmt: skip
  # Of the method with a lost run there are its other budgets, and no curve.
  last = [s for s in losses.panels[-1].series if s.label == "muon"]
  assert [s.x for s in last] == [(100,), (200,)]
  # Nothing of it where nothing is known.
  nothing = ladders.record(methods, seeds=())
  assert plots.build(nothing, ladder.analyse(nothing)) == []


def test_names_may_hold_anything():
  methods = {"adamw": ladders.same, "muon": ladders.fading}
  sweep = ladders.record(methods, noisy(0, 0.002), sizes=SMALL)
  names = {
    label: rungs.Rung(
      f"{rung.method}\udcff", f"{rung.size}\x1b[31m", rung.budget
    )
    for label, rung in sweep.rungs.rows.items()
  }
  renamed = dataclasses.replace(sweep.rungs, rows=names)
  sweep = dataclasses.replace(sweep, rungs=renamed)
  found = ladder.analyse(sweep)
  text = ladder_table.comma_separated(sweep, found)
  assert "adamw\\udcff" in text.encode().decode()
  for figure in plots.build(sweep, found):
    for panel in figure.panels:
      assert (panel.title + panel.y_label).isprintable()


@pytest.mark.parametrize(
  ("change", "what"),
  [
    (lambda said: said["rows"].pop(), "a ladder or null is needed"),
    (lambda said: said.update(tuned_at=["64", 1]), "a ladder or null"),
    (lambda said: said.update(transfer={}), "a ladder or null is needed"),
    (
      lambda said: said["rows"][0].update(label="other"),
      "has a ladder of other rows than its methods",
    ),
  ],
)
def test_a_damaged_ladder_is_named(tmp_path, change, what):
  methods = {"adamw": ladders.same, "muon": ladders.fading}
  out = ladders.write(tmp_path / "out", ladders.record(methods, seeds=()))
  plan = json.loads((out / "plan.json").read_text())
  change(plan["ladder"])
  conftest.write_json(out / "plan.json", plan)
  with pytest.raises(errors.RunError, match=what):
    load.load(out)


def test_a_wide_interval_does_not_flatten_the_figure():
  methods = {"adamw": ladders.same, "muon": ladders.fading}
  sweep = ladders.record(methods, noisy(0, 0.1), seeds=(1, 2))
  found = ladder.analyse(sweep)
  figure = plots.build(sweep, found)[0]
  (panel,) = figure.panels
  points = [y for series in panel.series for y in series.y]
  highest = max(end for series in panel.series for end in series.high)
  assert max(points) < panel.y_limits[1] < 2 * max(points) < highest
  assert "goes on" in figure.caption
