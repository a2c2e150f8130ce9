"""The exact signed-rank test against SciPy's and against all signs."""

import math

import numpy as np
import pytest
import scipy.stats

from normjax import statistics


@pytest.mark.parametrize("n", [2, 5, 8, 12])
def test_equals_scipy_without_ties(n):
  d = np.random.default_rng(n).normal(0.5, 1, n)
  found = statistics.signed_rank(d)
  expected = scipy.stats.wilcoxon(d, method="exact").pvalue
  assert found.p_value == pytest.approx(expected, rel=1e-12)
  assert found.n == n


def test_equals_all_signs_with_ties_zeros_and_infinities():
  rng = np.random.default_rng(0)
  every_sign = scipy.stats.PermutationMethod(n_resamples=np.inf)
  for _ in range(5):
    d = np.round(rng.normal(size=8), 1)
    d[:3] = math.inf, -math.inf, 0.0
    # SciPy ranks a number that is larger than all others alike.
    finite = np.where(np.isinf(d), 99 * np.sign(d), d)
    expected = scipy.stats.wilcoxon(finite, method=every_sign).pvalue
    found = statistics.signed_rank(d)
    assert found.p_value == pytest.approx(expected, rel=1e-12)


def test_what_it_can_say_at_most():
  assert statistics.signed_rank([1, 2, 3, 4, 5]) == (0.0625, 1, 5)
  assert statistics.signed_rank([-math.inf] * 6) == (2 / 2**6, -1, 6)
  assert statistics.signed_rank([0.0, 0.0]) == (1.0, 0, 0)
  assert statistics.signed_rank([]) == (1.0, 0, 0)
  assert statistics.signed_rank([1, -1]) == (1.0, 0, 2)


def test_it_is_valid_where_runs_diverge():
  """Equal methods that diverge in a third of the runs: at most 5% differ."""
  rng = np.random.default_rng(0)
  values = rng.normal(size=(1_000, 2, 8))
  values[rng.random(values.shape) < 1 / 3] = math.inf
  method, baseline = values[:, 0], values[:, 1]
  with np.errstate(invalid="ignore"):
    d = np.where(method == baseline, 0.0, method - baseline)
  share = np.mean([statistics.signed_rank(row).p_value < 0.05 for row in d])
  # Its own standard error is 0.7%.
  assert 0.005 < share < 0.05 + 3 * 0.007
