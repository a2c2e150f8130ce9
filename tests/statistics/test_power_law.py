"""Exponents against SciPy's regression."""

import numpy as np
import pytest
from scipy import stats

from normjax.statistics import power_law

WIDTHS = (64, 128, 256, 512)


def test_a_power_law_is_found():
  found = power_law.fit(WIDTHS, [3 * width**0.7 for width in WIDTHS])
  assert found.exponent == pytest.approx(0.7, abs=1e-12)
  assert found.coefficient == pytest.approx(3)
  assert found.r_squared == pytest.approx(1)
  assert found.low == pytest.approx(0.7) == found.high


def test_the_interval_is_that_of_a_regression():
  y = np.exp(np.random.default_rng(0).normal(size=4)) * WIDTHS
  found = power_law.fit(WIDTHS, y)
  want = stats.linregress(np.log(WIDTHS), np.log(y))
  half = stats.t.ppf(0.975, 2) * want.stderr
  assert found.exponent == pytest.approx(want.slope)
  assert found.standard_error == pytest.approx(want.stderr)
  assert (found.low, found.high) == pytest.approx(
    (want.slope - half, want.slope + half)
  )
  assert found.r_squared == pytest.approx(want.rvalue**2)
  two = power_law.fit(WIDTHS[:2], y[:2])
  assert two.low is None
  assert two.exponent == pytest.approx(np.log2(y[1] / y[0]))


@pytest.mark.parametrize(
  ("x", "y", "said"),
  [
    ((1, 2), (0, 1), "y=0; allowed: numbers > 0"),
    ((-1, 2), (1, 1), "x=-1"),
    ((2, 2), (1, 3), "two different"),
    ((1, 2, 3), (1, 3), "3 x and 2 y"),
    ((1, 2), (float("nan"), 1), "y=nan"),
  ],
)
def test_what_has_no_line_is_named(x, y, said):
  with pytest.raises(ValueError, match=said):
    power_law.fit(x, y)
