"""Rows of sweeps on disk, and the verdicts that they get."""

import json

import numpy as np
import pytest

from normjax.report import facts, findings, formats, load, stats, verdicts
from normjax.statistics import Interval

# Rounding of a few float64 operations on numbers near 1.
EXACT = dict(rel=1e-12, abs=1e-12)


def _rows(out):
  return {row.label: row for row in stats.summarize(load.load(out))}


def test_summary_of_a_sweep(finished_sweep):
  rows = _rows(finished_sweep)
  row = rows["layer_norm+muon"]
  assert (row.interval.n, row.planned, row.over) == (3, 3, 3)
  assert row.verdict == verdicts.BETTER
  assert (row.trials, row.trials_planned) == (4, 4)
  assert (row.steps, row.compile_s) == (300, 6.5)
  assert row.optimizer_state_bytes == 3_373_060
  baseline = rows["layer_norm+adamw"]
  assert baseline.verdict == verdicts.BASELINE
  assert baseline.difference is None
  assert baseline.trials_diverged == 1
  expected = np.mean(
    [row.values[s] - baseline.values[s] for s in (100, 101, 102)]
  )
  assert row.difference.interval.mean == pytest.approx(expected, **EXACT)
  tested = [r for r in rows.values() if r.difference]
  lost = [r for r in tested if r.difference.p_value is None]
  assert [r.label for r in lost] == ["dyt+sinkgd"]
  # It counts as one of the eight comparisons none the less.
  least = min(
    (r.difference for r in tested if r not in lost), key=lambda d: d.p_value
  )
  assert least.p_holm == pytest.approx(8 * least.p_value)


def test_diverged_seed_is_counted_not_averaged(finished_sweep):
  row = _rows(finished_sweep)["dyt+sinkgd"]
  assert row.diverged == {101: 140}
  assert sorted(row.values) == [100, 102]
  assert row.interval.mean == pytest.approx(
    (row.values[100] + row.values[102]) / 2, **EXACT
  )
  assert row.difference.interval.n == 2
  assert (row.over, row.planned) == (3, 3)


def test_verdicts_are_corrected_for_the_number_of_comparisons(make_sweep):
  sweep = load.load(make_sweep(spread=0.03, trials=False, diverged=()))
  rows = stats.summarize(sweep)
  lost = [r for r in rows if r.verdict != r.verdict_uncorrected]
  assert len(lost) == 3
  for row in lost:
    assert row.difference.p_value < 0.05 <= row.difference.p_holm
    assert row.verdict_uncorrected in (verdicts.BETTER, verdicts.WORSE)
    assert row.verdict == verdicts.SAME
  kept = [r for r in rows if r.verdict in (verdicts.BETTER, verdicts.WORSE)]
  assert kept
  assert all(row.difference.p_holm < 0.05 for row in kept)
  table = formats.records(sweep, rows)
  assert [r["verdict"] for r in table] == [r.verdict for r in rows]
  assert "3 more would be decided without that" in " ".join(
    findings.build(sweep, rows)
  )


def test_survivors_are_never_better(make_sweep):
  out = make_sweep(
    norms={"layer_norm": 0.0}, trials=False,
    optimizers={"adamw": (0.0, 1e-3), "muon": (-0.5, 1e-3)},
    diverged=[("layer_norm+muon", 101, 140)],
  )  # fmt: skip
  row = _rows(out)["layer_norm+muon"]
  assert row.difference.interval.high < 0
  assert row.verdict == "diverged 1 of 3"


def test_all_diverged(make_sweep):
  lost = [("dyt+muon", seed, 10 * seed) for seed in (100, 101, 102)]
  row = _rows(make_sweep(diverged=lost))["dyt+muon"]
  assert row.verdict == "diverged 3 of 3"
  assert row.interval == Interval(0)
  assert list(row.diverged.values()) == [1000, 1010, 1020]
  assert row.train_s is None


def test_diverged_baseline_leaves_nothing_to_compare(make_sweep):
  lost = [("layer_norm+adamw", seed, 90) for seed in (100, 101, 102)]
  rows = _rows(make_sweep(diverged=lost))
  assert rows["layer_norm+adamw"].verdict == "baseline (diverged 3 of 3)"
  assert rows["dyt+muon"].verdict == "baseline diverged 3 of 3"
  assert rows["dyt+muon"].interval.n == 3


def test_missing_seeds(make_sweep):
  out = make_sweep()
  runs = load.load(out).finals("rms_norm+muon")
  for run in runs[:2]:
    (out / "runs" / run.run_id / "result.json").unlink()
    (out / "runs" / run.run_id / "status.json").unlink()
  row = _rows(out)["rms_norm+muon"]
  assert (row.interval.n, row.planned, row.over) == (1, 3, 1)
  assert row.verdict == verdicts.TOO_FEW
  assert row.interval.mean == row.values[102]


def test_one_seed(make_sweep):
  rows = _rows(make_sweep(seeds=(100,), diverged=()))
  assert {row.verdict for row in rows.values()} == {
    verdicts.BASELINE,
    verdicts.TOO_FEW,
  }


def test_no_baseline(make_sweep):
  rows = _rows(make_sweep(baseline=None))
  assert {row.verdict for row in rows.values()} == {verdicts.NO_BASELINE}


@pytest.mark.parametrize("is_there", [True, False])
def test_result_without_the_metric(make_sweep, is_there):
  """A metric that is not finite has diverged; one that is not there is not."""
  out = make_sweep()
  run = load.load(out).finals("rms_norm+muon")[0]
  path = out / "runs" / run.run_id / "result.json"
  result = json.loads(path.read_text())
  result["metrics"]["eval/loss"] = None
  if not is_there:
    del result["metrics"]["eval/loss"]
  path.write_text(json.dumps(result))
  sweep = load.load(out)
  rows = {row.label: row for row in stats.summarize(sweep)}
  row = rows["rms_norm+muon"]
  assert row.interval.n == 2
  (warning,) = facts.warnings(sweep, list(rows.values()))
  if is_there:
    assert warning.endswith("its eval/loss is not finite; counted as diverged")
    assert (row.verdict, row.diverged) == ("diverged 1 of 3", {100: 300})
  else:
    assert warning.endswith("has no eval/loss; not in the mean")
    assert not row.diverged
