"""Divergence, counted metrics, and where a verdict is said."""

import csv
import dataclasses
import io
import json
import types

import numpy as np
import pytest
import scipy.stats
from rich.console import Console

from normjax import report
from normjax.report import (
  facts,
  findings,
  formats,
  load,
  samples,
  stats,
  tables,
  verdicts,
)

# ----- Divergence -----

_TWO = {
  "norms": {"layer_norm": 0.0},
  "optimizers": {"adamw": (0.0, 1e-3), "muon": (-0.5, 1e-3)},
  "trials": False,
}
_BASE, _OTHER = "layer_norm+adamw", "layer_norm+muon"
_SEEDS = tuple(range(100, 108))


def _changed(out, **fields):
  """The sweep, with other fields of its plan."""
  path = out / "plan.json"
  path.write_text(json.dumps(json.loads(path.read_text()) | fields))
  return load.load(out)


def test_survivors_are_tested_by_nothing(make_sweep):
  """Three survivors of five had p = .0012 and "better" once."""
  lost = [(_OTHER, seed, 50) for seed in (103, 104)]
  out = make_sweep(**_TWO, seeds=_SEEDS[:5], diverged=lost)
  sweep = load.load(out)
  rows = stats.summarize(sweep)
  limits = " ".join(facts.limits(sweep, rows))
  assert "same examples (validation): verdicts are of these" in limits
  row = rows[1]
  assert row.verdict == row.verdict_uncorrected == "diverged 2 of 5"
  assert row.difference.interval.high < 0
  assert row.difference.p_value is row.difference.p_holm is None
  assert row.difference.seeds_needed is None


def test_a_baseline_that_diverged_is_said_of_all(make_sweep):
  lost = [(_BASE, 100, 50), (_OTHER, 101, 60)]
  optimizers = {**_TWO["optimizers"], "sinkgd": (-0.5, 1e-3)}
  options = {**_TWO, "optimizers": optimizers}
  out = make_sweep(**options, seeds=_SEEDS[:5], diverged=lost)
  sweep = load.load(out)
  rows = stats.summarize(sweep)
  assert [row.verdict for row in rows] == [
    "baseline (diverged 1 of 5)",
    "diverged 1 of 5 (baseline 1 of 5)",
    "baseline diverged 1 of 5",
  ]
  said = (
    "The baseline diverged for 1 of 5 seeds: no method is called better or"
    " worse than it. Another Sweep.baseline needs no new runs."
  )
  said_first = findings.build(sweep, rows)
  assert said in said_first
  assert said in facts.limits(sweep, rows)
  assert "of 2 methods: 1 diverged, 1 not tested." in said_first[1]
  # The third row has all its seeds, its difference has not.
  cells = tables.build(sweep, rows).rows[2]
  assert sum(cell.text.endswith("†") for cell in cells) == 1
  # Survivors are not ranked either.
  assert "Seeds diverged, so not ranked: layer_norm+adamw" in said_first[0]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_divergence_as_the_worst_rank(make_sweep, mode):
  """A diverged run counts against its method, whichever side is better."""
  lost = [(_BASE, seed, 50) for seed in _SEEDS[:2]]
  out = make_sweep(**_TWO, seeds=_SEEDS, diverged=lost)
  sweep = _changed(out, divergence="worst", mode=mode)
  base, other = stats.summarize(sweep)
  assert base.verdict == "baseline (diverged 2 of 8)"
  difference = other.difference
  if mode == "min":
    # All eight differences have one sign.
    assert difference.p_value == 2 / 2**8
    assert other.verdict == verdicts.BETTER
  else:
    # Ranks 7.5 and 7.5 against 1 to 6: 15 of 36.
    assert difference.p_value > 0.5
    assert other.verdict == verdicts.SAME
  (said,) = [t for t in findings.build(sweep, [base, other]) if "The base" in t]
  assert said.endswith("each of these counts as the worst value.")
  assert {r["test"] for r in formats.records(sweep, [base, other])} == {
    "signed_rank"
  }
  keys = [column.key for column in tables.build(sweep, [base, other]).columns]
  assert "seeds_needed" not in keys


def test_by_ranks_a_diverging_method_is_worse_and_never_better(make_sweep):
  def verdict(lost, gain):
    optimizers = {**_TWO["optimizers"], "muon": (gain, 1e-3)}
    out = make_sweep(
      **{**_TWO, "optimizers": optimizers}, seeds=tuple(range(100, 114)),
      diverged=lost,
    )  # fmt: skip
    return stats.summarize(_changed(out, divergence="worst"))[1]

  one = verdict([(_OTHER, 100, 50)], -0.5)
  # The one costs 14 of 105 ranks.
  assert one.difference.p_value < 0.05
  assert one.verdict == "diverged 1 of 14"
  many = verdict([(_OTHER, seed, 50) for seed in range(100, 113)], -0.5)
  assert many.difference.p_value < 0.05
  assert many.verdict == verdicts.WORSE
  both = verdict([(m, 100, 50) for m in (_BASE, _OTHER)], -0.5)
  # A tie, which has no sign.
  assert both.difference.p_value == 2 / 2**13


def test_five_seeds_decide_nothing_by_ranks(make_sweep):
  sweep = _changed(
    make_sweep(**_TWO, seeds=_SEEDS[:5], diverged=()), divergence="worst"
  )
  rows = stats.summarize(sweep)
  assert rows[1].verdict == verdicts.SAME
  first, *_ = findings.build(sweep, rows)
  assert "2 / 2^5 = 0.0625" in first
  assert "nothing can be decided" in first
  assert tables.build(sweep, rows).notes[0] == first


# ----- Folds -----


def _folded(sweep, num_folds):
  """The sweep as of data that is cross-validated."""
  return dataclasses.replace(
    sweep,
    runs=tuple(
      dataclasses.replace(
        run, record={**run.record, "fold": {"number": run.seed % num_folds}}
      )
      for run in sweep.runs
    ),
  )


def test_seeds_of_one_fold_are_one_sample(make_sweep):
  """Ten seeds of five folds erred in 14 to 22% of equal methods."""
  out = make_sweep(**_TWO, seeds=range(100, 110), diverged=())
  sweep = _folded(load.load(out), 5)
  rows = stats.summarize(sweep)
  base, other = (
    np.array([r.metric("eval/loss") for r in sweep.finals(label)])
    for label in (_BASE, _OTHER)
  )
  # Seeds 100 and 105 are one fold, and so on.
  expected = scipy.stats.ttest_1samp((other - base).reshape(2, 5).mean(0), 0.0)
  row = rows[1]
  assert row.difference.p_value == pytest.approx(expected.pvalue)
  assert (row.interval.n, row.num_done) == (5, 10)
  notes = " ".join(tables.build(sweep, rows).notes)
  assert "Cross-validated: 10 seeds have 5 folds" in notes
  assert verdicts.attainable(sweep).n == 5
  limits = facts.limits(sweep, rows)
  assert "Every row rests on 5 folds." in limits
  assert any(line.startswith("Folds are measured") for line in limits)
  # As many folds as seeds: each seed is a sample.
  plain = stats.summarize(_folded(load.load(out), 10))[1]
  seeds = scipy.stats.ttest_1samp(other - base, 0.0)
  assert plain.difference.p_value == pytest.approx(seeds.pvalue)


def test_a_fold_is_diverged_where_one_of_its_seeds_is(make_sweep):
  lost = [(_OTHER, 105, 50)]
  out = make_sweep(**_TWO, seeds=range(100, 114), diverged=lost)
  row = stats.summarize(_folded(_changed(out, divergence="worst"), 7))[1]
  # Six folds of seven are better, the seventh has the run that diverged.
  assert row.difference.interval.n == 7
  ranked = scipy.stats.wilcoxon([1, 2, 3, 4, 5, 6, -7], method="exact")
  assert row.difference.p_value == pytest.approx(ranked.pvalue)
  assert row.verdict == "diverged 1 of 14"


# ----- Metrics that are counted -----


def _counts(out, values, num_examples):
  """Gives final runs these accuracies, by method and seed."""
  for run in load.load(out).runs:
    path = out / "runs" / run.run_id / "result.json"
    result = json.loads(path.read_text())
    result["metrics"]["eval/accuracy"] = values[run.method][run.seed]
    result["eval_examples"] = num_examples
    path.write_text(json.dumps(result))
  return _changed(out, metric="eval/accuracy", mode="max")


def test_equal_accuracies_of_360_examples_are_never_told_apart(make_sweep):
  out = make_sweep(**_TWO, diverged=())
  same = dict.fromkeys((100, 101, 102), 350 / 360)
  other = dict.fromkeys((100, 101, 102), 351 / 360)
  sweep = _counts(out, {_BASE: same, _OTHER: other}, 360)
  rows = stats.summarize(sweep)
  assert rows[1].difference.p_value == pytest.approx(0.0513, abs=1e-4)
  assert rows[1].verdict == verdicts.SAME
  notes = " ".join(tables.build(sweep, rows).notes)
  assert "takes steps of 0.00278" in notes
  # Nobody says of how many examples: no spread is known.
  sweep = _counts(out, {_BASE: same, _OTHER: other}, None)
  rows = stats.summarize(sweep)
  assert rows[1].difference.p_value is None
  assert rows[1].verdict == verdicts.SAME
  notes = " ".join(tables.build(sweep, rows).notes)
  assert f"its spread is not known. {_OTHER}." in notes


def test_what_takes_steps(make_sweep):
  out = make_sweep(**_TWO, diverged=())
  counts = {
    m: {100: 0.5, 101: 180 / 360, 102: 7 / 360} for m in (_BASE, _OTHER)
  }
  assert samples.resolution(_counts(out, counts, 360)) == 1 / 360
  # A loss does not, whatever it is a mean over.
  assert samples.resolution(_changed(out, metric="eval/loss")) == 0
  # Of results of before, the data says the size.
  for path in (out / "runs").glob("*/run.json"):
    record = json.loads(path.read_text())
    record["provenance"]["data"] = {"sizes": {"validation": 360}}
    path.write_text(json.dumps(record))
  assert samples.resolution(_counts(out, counts, None)) == 1 / 360
  goal = "steps_to(eval/loss<=1.9)"
  sweep = _changed(out, metric=goal, config={"evaluate": {"every_steps": 50}})
  assert samples.resolution(sweep) == 50


# ----- What is said at the head, and in every format -----


def test_best_is_said_of_what_can_be_told_apart(make_sweep):
  def first(spread, **options):
    sweep = load.load(make_sweep(spread=spread, diverged=(), **options))
    rows = stats.summarize(sweep)
    return next(t for t in findings.build(sweep, rows) if "eval/loss" in t)

  two = {**_TWO, "seeds": _SEEDS[:5]}
  assert first(1e-3, **two) == (
    "Best eval/loss: layer_norm+muon (1.22, n = 5), better than the second,"
    " layer_norm+adamw, and than every other."
  )
  told = first(2.0, **two)
  assert told.startswith("Best mean eval/loss: ")
  assert "not distinguishable from layer_norm+" in told
  assert "too few seeds" in first(1e-3, **{**_TWO, "seeds": (100,)})
  # Two that are equal, far ahead of all others.
  norms = {"layer_norm": 0.0, "rms_norm": -0.0001}
  told = first(0.012, norms=norms, seeds=_SEEDS[:5], trials=False)
  assert told.endswith("not distinguishable from rms_norm+muon.")


def test_equal_methods_have_no_best():
  """The best mean of eight is called best in at most 5% of sweeps."""
  rng = np.random.default_rng(0)
  sweep = types.SimpleNamespace(
    mode="min", metric="eval/loss", divergence="verdict", runs=(), config={}
  )
  called = 0
  for values in rng.normal(size=(400, 8, 5)):
    drawn = {
      str(i): samples.Sample(dict(enumerate(row)), frozenset(), 5)
      for i, row in enumerate(values)
    }
    called += not verdicts.best(sweep, drawn).undecided
  # Its own standard error is 1.1%.
  assert called / 400 <= 0.05


def test_every_format_shows_the_corrected_verdict(make_sweep):
  """Rows that only the unadjusted interval decides are decided in none."""
  out = make_sweep(spread=0.03, trials=False, diverged=())
  sweep = load.load(out)
  rows = stats.summarize(sweep)
  lost = [r.label for r in rows if r.verdict != r.verdict_uncorrected]
  assert lost
  paths = report.write_report(out)
  records = csv.DictReader(io.StringIO(paths.csv.read_text()))
  shown = {r["method"]: r["verdict"] for r in records}
  file = io.StringIO()
  report.print_table(out, Console(file=file, width=250))
  for label in lost:
    assert shown[label] == verdicts.SAME
    for text in (file.getvalue(), paths.markdown.read_text()):
      line = next(t for t in text.splitlines() if label in t and "±" in t)
      assert verdicts.SAME in line
      assert verdicts.BETTER not in line
      assert verdicts.WORSE not in line
    cell = paths.html.read_text().partition(f'data-sort="{label}"')[2]
    assert '<span class="verdict ">' in cell.partition("</tr>")[0]
    p_holm = {r.label: r.difference.p_holm for r in rows if r.difference}[label]
    tex = paths.tex.read_text()
    line = next(t for t in tex.splitlines() if t.endswith(f"{p_holm:.3f} \\\\"))
    assert line
  for text in (file.getvalue(), paths.markdown.read_text()):
    assert "unadjusted" in text
  assert "unadjusted" in paths.tex.read_text()
