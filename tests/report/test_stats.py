"""Statistics against values worked out by hand or by another route."""

import json
import math

import numpy as np
import pytest
import scipy.stats

from normjax.report import facts, formats, load, stats

# Rounding of a few float64 operations on numbers near 1.
EXACT = dict(rel=1e-12, abs=1e-12)

# t(0.975, 2): with two degrees of freedom the quantile has a closed form.
T_2 = 0.95 * math.sqrt(2 / (1 - 0.95**2))


def test_interval_of_three():
  # mean 2, sd 1.
  interval = stats.mean_interval([1.0, 2.0, 3.0])
  assert interval.n == 3
  assert interval.mean == pytest.approx(2.0, **EXACT)
  assert interval.sd == pytest.approx(1.0, **EXACT)
  half = T_2 / math.sqrt(3)
  assert interval.high == pytest.approx(2 + half, **EXACT)
  assert interval.low == pytest.approx(2 - half, **EXACT)
  assert interval.half_width == pytest.approx(half, **EXACT)


def test_interval_of_five_matches_scipy():
  values = [1.72, 1.69, 1.75, 1.70, 1.71]
  result = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
  interval = stats.mean_interval(values)
  assert interval.low == pytest.approx(result.low, **EXACT)
  assert interval.high == pytest.approx(result.high, **EXACT)


def test_no_interval_below_two():
  assert stats.mean_interval([]) == stats.Interval(0)
  assert stats.mean_interval([1.5]) == stats.Interval(1, 1.5)
  assert stats.mean_interval([1.5]).half_width is None


def test_paired_difference_by_hand():
  # Differences over the common seeds 1, 2, 3: 0.1, 0.2, 0.3.
  method = {1: 1.1, 2: 2.2, 3: 3.3, 9: 100.0}
  baseline = {1: 1.0, 2: 2.0, 3: 3.0, 8: -100.0}
  difference = stats.paired_difference(method, baseline)
  assert difference.interval.n == 3
  assert difference.interval.mean == pytest.approx(0.2, **EXACT)
  half = T_2 * 0.1 / math.sqrt(3)
  assert difference.interval.low == pytest.approx(0.2 - half, **EXACT)
  result = scipy.stats.ttest_rel([1.1, 2.2, 3.3], [1.0, 2.0, 3.0])
  # The t statistic divides by an sd of 0.1 that lost a digit by cancellation.
  assert difference.p_value == pytest.approx(result.pvalue, rel=1e-10)


def test_pairing_removes_what_seeds_share():
  shared = [0.0, 1.0, -1.0, 0.5]
  baseline = {s: 2 + x for s, x in enumerate(shared)}
  method = {s: 1.9 + x + 0.01 * (-1) ** s for s, x in enumerate(shared)}
  difference = stats.paired_difference(method, baseline)
  assert stats.verdict(difference.interval, "min") == stats.BETTER
  # Unpaired, the same numbers say nothing.
  unpaired = scipy.stats.ttest_ind(
    list(method.values()), list(baseline.values())
  )
  assert unpaired.pvalue > 0.5


@pytest.mark.parametrize(
  ("low", "high", "mode", "word"),
  [
    (-0.3, -0.1, "min", stats.BETTER),
    (-0.3, -0.1, "max", stats.WORSE),
    (0.1, 0.3, "min", stats.WORSE),
    (0.1, 0.3, "max", stats.BETTER),
    (-0.1, 0.3, "min", stats.SAME),
    (-0.1, 0.3, "max", stats.SAME),
    (0.0, 0.3, "min", stats.SAME),
    (-0.3, 0.0, "max", stats.SAME),
  ],
)
def test_verdict(low, high, mode, word):
  interval = stats.Interval(3, (low + high) / 2, low, high, 1.0)
  assert stats.verdict(interval, mode) == word


def test_verdict_needs_two_pairs():
  one = stats.paired_difference({1: 1.0, 2: 1.0}, {2: 2.0, 3: 1.0})
  assert one.p_value is None
  assert one.seeds_needed is None
  assert stats.verdict(one.interval, "min") == stats.TOO_FEW
  none = stats.paired_difference({1: 1.0}, {2: 2.0})
  assert stats.verdict(none.interval, "min") == stats.TOO_FEW


def test_ties():
  same = {1: 1.7, 2: 1.8, 3: 1.6}
  tie = stats.paired_difference(same, dict(same))
  assert (tie.interval.mean, tie.p_value) == (0.0, 1.0)
  assert stats.verdict(tie.interval, "min") == stats.SAME
  assert tie.seeds_needed is None


def test_constant_difference():
  # Exact in binary, so that the spread is exactly 0.
  constant = stats.paired_difference({1: 1.0, 2: 2.0}, {1: 1.5, 2: 2.5})
  assert (constant.interval.sd, constant.p_value) == (0.0, 0.0)
  assert stats.verdict(constant.interval, "min") == stats.BETTER
  assert constant.seeds_needed == 2


def test_holm():
  # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, then made monotone.
  adjusted = stats.holm([0.01, 0.04, 0.03, 0.005])
  assert adjusted == pytest.approx([0.03, 0.06, 0.06, 0.02], **EXACT)
  assert stats.holm([0.9, 0.8]) == [1.0, 1.0]
  assert stats.holm([]) == []


@pytest.mark.parametrize("effect", [0.3, 0.5, 1.0, 2.0])
def test_seeds_needed_have_the_power(effect):
  """Against the exact power, from the noncentral t distribution."""

  def power(n):
    critical = scipy.stats.t.ppf(0.975, n - 1)
    return scipy.stats.nct.sf(critical, n - 1, effect * math.sqrt(n))

  n = stats.seeds_needed(stats.Interval(3, -effect, None, None, 1.0))
  # The formula replaces the noncentral t by a shifted one: right to a seed.
  assert power(n + 1) >= stats.POWER
  assert power(n - 2) < stats.POWER


def test_too_many_seeds_needed():
  interval = stats.Interval(3, 1e-6, -1.0, 1.0, 1.0)
  assert stats.seeds_needed(interval) == stats.MAX_SEEDS


def _rows(out):
  return {row.label: row for row in stats.summarize(load.load(out))}


def test_summary_of_a_sweep(finished_sweep):
  rows = _rows(finished_sweep)
  row = rows["layer_norm+muon"]
  assert (row.interval.n, row.planned, row.over) == (3, 3, 3)
  assert row.verdict == stats.BETTER
  assert (row.trials, row.trials_planned) == (4, 4)
  assert (row.steps, row.compile_s) == (300, 6.5)
  assert row.optimizer_state_bytes == 3_373_060
  baseline = rows["layer_norm+adamw"]
  assert baseline.verdict == stats.BASELINE
  assert baseline.difference is None
  assert baseline.trials_diverged == 1
  expected = np.mean(
    [row.values[s] - baseline.values[s] for s in (100, 101, 102)]
  )
  assert row.difference.interval.mean == pytest.approx(expected, **EXACT)
  tested = [r for r in rows.values() if r.difference]
  assert all(r.difference.p_holm >= r.difference.p_value for r in tested)


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
    assert row.verdict_uncorrected in (stats.BETTER, stats.WORSE)
    assert row.verdict == stats.SAME
  kept = [r for r in rows if r.verdict in (stats.BETTER, stats.WORSE)]
  assert kept
  assert all(row.difference.p_holm < 0.05 for row in kept)
  table = formats.records(sweep, rows)
  assert [r["verdict"] for r in table] == [r.verdict for r in rows]
  assert "3 more would be decided without that" in " ".join(
    facts.findings(sweep, rows)
  )


def test_survivors_are_never_better(make_sweep):
  out = make_sweep(
    norms={"layer_norm": 0.0}, trials=False,
    optimizers={"adamw": (0.0, 1e-3), "muon": (-0.5, 1e-3)},
    diverged=[("layer_norm+muon", 101, 140)],
  )  # fmt: skip
  row = _rows(out)["layer_norm+muon"]
  assert row.difference.interval.high < 0
  assert row.verdict == stats.SOME_DIVERGED


def test_all_diverged(make_sweep):
  lost = [("dyt+muon", seed, 10 * seed) for seed in (100, 101, 102)]
  row = _rows(make_sweep(diverged=lost))["dyt+muon"]
  assert row.verdict == stats.ALL_DIVERGED
  assert row.interval == stats.Interval(0)
  assert list(row.diverged.values()) == [1000, 1010, 1020]
  assert row.train_s is None


def test_diverged_baseline_leaves_nothing_to_compare(make_sweep):
  lost = [("layer_norm+adamw", seed, 90) for seed in (100, 101, 102)]
  rows = _rows(make_sweep(diverged=lost))
  assert rows["layer_norm+adamw"].verdict == stats.ALL_DIVERGED
  assert rows["dyt+muon"].verdict == stats.TOO_FEW
  assert rows["dyt+muon"].interval.n == 3


def test_missing_seeds(make_sweep):
  out = make_sweep()
  runs = load.load(out).finals("rms_norm+muon")
  for run in runs[:2]:
    (out / "runs" / run.run_id / "result.json").unlink()
    (out / "runs" / run.run_id / "status.json").unlink()
  row = _rows(out)["rms_norm+muon"]
  assert (row.interval.n, row.planned, row.over) == (1, 3, 1)
  assert row.verdict == stats.TOO_FEW
  assert row.interval.mean == row.values[102]


def test_one_seed(make_sweep):
  rows = _rows(make_sweep(seeds=(100,), diverged=()))
  assert {row.verdict for row in rows.values()} == {
    stats.BASELINE,
    stats.TOO_FEW,
  }


def test_no_baseline(make_sweep):
  rows = _rows(make_sweep(baseline=None))
  assert {row.verdict for row in rows.values()} == {stats.NO_BASELINE}


def test_result_without_the_metric(make_sweep):
  out = make_sweep()
  run = load.load(out).finals("rms_norm+muon")[0]
  path = out / "runs" / run.run_id / "result.json"
  result = json.loads(path.read_text())
  result["metrics"]["eval/loss"] = None
  path.write_text(json.dumps(result))
  sweep = load.load(out)
  rows = {row.label: row for row in stats.summarize(sweep)}
  assert rows["rms_norm+muon"].interval.n == 2
  (warning,) = facts.warnings(sweep, list(rows.values()))
  assert "has no eval/loss; not in the mean" in warning
