"""Intervals and the t-test, against values worked out by another route."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from normjax import statistics

# Rounding of a few float64 operations on numbers near 1.
EXACT = dict(rel=1e-12, abs=1e-12)

# t(0.975, 2): with two degrees of freedom the quantile has a closed form.
T_2 = 0.95 * math.sqrt(2 / (1 - 0.95**2))


def test_interval_of_three():
  # mean 2, sd 1.
  interval = statistics.mean_interval([1.0, 2.0, 3.0])
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
  interval = statistics.mean_interval(values)
  assert interval.low == pytest.approx(result.low, **EXACT)
  assert interval.high == pytest.approx(result.high, **EXACT)


def test_no_interval_below_two():
  assert statistics.mean_interval([]) == statistics.Interval(0)
  assert statistics.mean_interval([1.5]) == statistics.Interval(1, 1.5)
  assert statistics.mean_interval([1.5]).half_width is None
  assert statistics.t_test(statistics.Interval(1, 1.5)) is None


def test_paired_difference_by_hand():
  # Differences over the common seeds 1, 2, 3: 0.1, 0.2, 0.3.
  method = {1: 1.1, 2: 2.2, 3: 3.3, 9: 100.0}
  baseline = {1: 1.0, 2: 2.0, 3: 3.0, 8: -100.0}
  interval = statistics.paired_interval(method, baseline)
  assert interval.n == 3
  assert interval.mean == pytest.approx(0.2, **EXACT)
  half = T_2 * 0.1 / math.sqrt(3)
  assert interval.low == pytest.approx(0.2 - half, **EXACT)
  result = scipy.stats.ttest_rel([1.1, 2.2, 3.3], [1.0, 2.0, 3.0])
  # The t statistic divides by an sd of 0.1 that lost a digit by cancellation.
  p_value = statistics.t_test(interval)
  assert p_value == pytest.approx(result.pvalue, rel=1e-10)


def test_pairing_removes_what_seeds_share():
  shared = [0.0, 1.0, -1.0, 0.5]
  baseline = {s: 2 + x for s, x in enumerate(shared)}
  method = {s: 1.9 + x + 0.01 * (-1) ** s for s, x in enumerate(shared)}
  paired = statistics.paired_interval(method, baseline)
  assert statistics.t_test(paired) < 0.05
  # Unpaired, the same numbers say nothing.
  unpaired = scipy.stats.ttest_ind(
    list(method.values()), list(baseline.values())
  )
  assert unpaired.pvalue > 0.5


def test_ties():
  same = {1: 1.7, 2: 1.8, 3: 1.6}
  tie = statistics.paired_interval(same, dict(same))
  assert (tie.mean, statistics.t_test(tie)) == (0.0, 1.0)


@pytest.mark.parametrize(
  "baseline", [{1: 1.5, 2: 2.5, 3: 3.5}, {1: 1.1, 2: 2.1, 3: 3.1}]
)
def test_a_spread_of_0_is_no_certainty(baseline):
  """Exactly 0, and 0 but for the rounding of a difference."""
  method = {1: 1.0, 2: 2.0, 3: 3.0}
  constant = statistics.paired_interval(method, baseline)
  assert constant.sd == 0
  assert statistics.t_test(constant) is None
  # A known resolution is a spread.
  rounded = statistics.paired_interval(method, baseline, resolution=0.5)
  assert rounded.sd == pytest.approx(0.5 / math.sqrt(6), **EXACT)
  assert statistics.t_test(rounded) > 0.05


def test_equal_accuracies_of_360_examples_never_differ():
  """Not with any differences that rounding to one example can make."""
  n = 360
  p_values = []
  for counts in itertools.product((-1, 0, 1), repeat=3):
    baseline = dict.fromkeys(range(3), 350 / n)
    method = {seed: (350 + c) / n for seed, c in enumerate(counts)}
    interval = statistics.paired_interval(method, baseline, 1 / n)
    p_values.append(statistics.t_test(interval))
  assert min(p_values) > 0.05
  assert min(p_values) == pytest.approx(0.0513, abs=1e-4)


def test_least_spread_is_that_of_two_roundings():
  rng = np.random.default_rng(0)
  step = 0.01
  x = rng.normal(size=(2, 100_000))
  errors = np.diff(np.round(x / step) * step - x, axis=0)
  # The standard error of an sd of 100,000 values is 0.2%.
  least = statistics.resolution_sd(step)
  assert errors.std() == pytest.approx(least, rel=0.01)


def test_holm():
  # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, then made monotone.
  adjusted = statistics.holm([0.01, 0.04, 0.03, 0.005])
  assert adjusted == pytest.approx([0.03, 0.06, 0.06, 0.02], **EXACT)
  assert statistics.holm([0.9, 0.8]) == [1.0, 1.0]
  assert statistics.holm([]) == []
  # Comparisons without a p-value count.
  assert statistics.holm([0.01, 0.02], 5) == pytest.approx([0.05, 0.08])


def test_the_least_spread_of_a_sum_is_that_of_its_roundings():
  """sqrt(sum (w h)² / 12), of which a difference is the case 1, -1."""
  assert statistics.weighted_resolution_sd([1, -1], [0.3, 0.3]) == (
    pytest.approx(statistics.resolution_sd(0.3))
  )
  weights, steps = [1.0, -1.0, 0.5], [0.1, 0.1, 0.3]
  rng = np.random.default_rng(3)
  exact = rng.normal(size=(20_000, 3))
  off = np.round(exact / steps) * steps - exact
  assert statistics.weighted_resolution_sd(weights, steps) == pytest.approx(
    (off @ weights).std(), rel=0.03
  )
  assert statistics.weighted_resolution_sd(weights, [0.0] * 3) == 0.0


def test_a_sum_is_formed_seed_by_seed():
  a, b, c = {1: 4.0, 2: 6.0, 3: 1.0}, {1: 1.0, 2: 2.0, 4: 9.0}, {2: 3.0, 1: 2}
  found = statistics.sum_interval([(1.0, a), (-2.0, b), (0.5, c)])
  assert found == statistics.mean_interval([3.0, 3.5])
  pair = statistics.sum_interval([(1.0, a), (-1.0, b)])
  assert pair == statistics.paired_interval(a, b)
  assert statistics.sum_interval([(1.0, a), (1.0, {9: 1.0})]).n == 0
