"""What n seeds can decide, and the range of seeds needed."""

import math

import numpy as np
import pytest
import scipy.stats

from normjax import statistics


@pytest.mark.parametrize("effect", [0.3, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("m", [1, 13])
def test_seeds_needed_have_the_power(effect, m):
  """Against the exact power, from the noncentral t distribution."""

  def power(n):
    critical = scipy.stats.t.ppf(1 - 0.025 / m, n - 1)
    return scipy.stats.nct.sf(critical, n - 1, effect * math.sqrt(n))

  interval = statistics.Interval(5, -effect, None, None, 1.0)
  n = statistics.seeds_needed(interval, m).observed
  # The formula replaces the noncentral t by a shifted one: right to a seed,
  # or two where the test is far in the tail.
  slack = 1 if m == 1 else 2
  assert power(n + slack) >= statistics.POWER
  assert power(n - 1 - slack) < statistics.POWER


def test_the_range_holds_the_right_number_in_95_percent():
  """The mean difference is the true one; the spread is of five seeds."""
  effect, n = 1.0, 5
  truth = statistics.seeds_needed(
    statistics.Interval(n, effect, None, None, 1.0)
  ).observed
  spreads = np.random.default_rng(0).normal(size=(1_000, n)).std(1, ddof=1)
  ranges = [
    statistics.seeds_needed(statistics.Interval(n, effect, None, None, sd))
    for sd in spreads
  ]
  share = np.mean([low <= truth <= high for low, _, high in ranges])
  # Its own standard error is 0.7%; whole seeds widen the range a little.
  assert 0.95 - 3 * 0.007 < share < 0.99


def test_where_seeds_needed_are_not_known():
  def needed(n, mean, sd):
    return statistics.seeds_needed(statistics.Interval(n, mean, sd=sd))

  assert needed(4, 1.0, 1.0) is None
  assert needed(5, 0.0, 1.0) is None
  assert needed(5, 1.0, 0.0) is None
  assert needed(5, 1e-6, 1.0) == (statistics.MAX_SEEDS,) * 3


def test_what_a_t_test_needs():
  few = statistics.attainable(3, 26)
  assert few.needed_t == pytest.approx(22.8, abs=0.05)
  expected = scipy.stats.t.ppf(1 - 0.025 / 26, 2)
  assert few.needed_t == pytest.approx(expected, rel=1e-9)
  assert not few.can_decide
  # A difference three times its spread, by SciPy, times 26.
  d = np.asarray([2.0, 3.0, 4.0])
  p_value = scipy.stats.ttest_1samp(d, 0).pvalue
  assert few.smallest_p == pytest.approx(26 * p_value, rel=1e-9)
  assert "|t| > 22.8" in str(few)
  assert "p (Holm) = 0.91" in str(few)
  assert statistics.attainable(few.enough_seeds, 26).can_decide
  assert not statistics.attainable(few.enough_seeds - 1, 26).can_decide
  assert statistics.attainable(3, 1).can_decide


@pytest.mark.parametrize("n", range(2, 9))
@pytest.mark.parametrize("m", [1, 3])
def test_what_a_signed_rank_test_can_reach(n, m):
  found = statistics.attainable(n, m, exact=True)
  reached = statistics.signed_rank(range(1, n + 1)).p_value
  assert found.smallest_p == min(1, m * reached)
  assert found.can_decide == (m * reached < 0.05)


def test_one_seed_decides_nothing():
  one = statistics.attainable(1, 2)
  assert not one.can_decide
  assert str(one).startswith("1 seed and 2 comparisons: no verdict is possible")
