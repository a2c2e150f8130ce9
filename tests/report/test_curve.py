"""Curves of losses over budgets, and intervals of few seeds."""

import math

import numpy as np
import pytest
from scipy import special

from normjax import statistics
from normjax.report import curve, resample
from tests.report import ladders

BUDGETS = np.array(ladders.BUDGETS, float)


@pytest.mark.parametrize(("floor", "beta"), [(1.3, 0.4), (0, 0.1), (2, 1.5)])
@pytest.mark.parametrize("budgets", [(1, 2, 4), (1, 3, 4, 9)])
def test_a_curve_is_recovered_and_inverted(floor, beta, budgets):
  budgets_k = 100.0 * np.array(budgets)

  def loss(budget):
    return floor + 1.2 * (budget / 100) ** -beta

  found = curve.fit(budgets_k, loss(budgets_k)[None])
  assert found.exponents_r == pytest.approx(beta, abs=1e-4)
  assert found.floors() == pytest.approx(floor, abs=1e-3)
  # Also beyond the budgets.
  needed = found.budgets(loss(1.7 * budgets_k)[None])
  assert needed[0] / budgets_k == pytest.approx(1.7, rel=1e-4)


def test_three_budgets_are_met_and_two_carry_no_floor():
  losses = np.array([[3.0, 2.8, 2.4], [3.0, 2.2, 2.1]])
  found = curve.fit(BUDGETS, losses)
  assert found.losses(BUDGETS) == pytest.approx(losses, abs=1e-6)
  # The first falls faster and faster: there is no floor.
  assert np.isnan(found.floors()).tolist() == [True, False]
  line = curve.fit(BUDGETS[:2], losses[:, :2])
  assert line.exponents_r.tolist() == [0, 0]
  assert line.losses(BUDGETS[:2]) == pytest.approx(losses[:, :2])


def test_no_budget_is_enough_below_the_floor_or_of_a_loss_that_rises():
  falls = curve.fit(BUDGETS, np.array([[3.0, 2.5, 2.25]]))  # E = 2
  assert falls.budgets(np.array([[2.1, 1.9]]))[0, 0] > 400
  assert np.isnan(falls.budgets(np.array([[2.1, 1.9]]))[0, 1])
  for losses in ([2.0, 2.1, 2.2], [2.0, 2.0, 2.0]):
    rises = curve.fit(BUDGETS, np.array([losses]))
    assert np.isnan(rises.budgets(np.array([[1.9]]))).all()


@pytest.mark.parametrize("n", [2, 3, 6, 9])
def test_of_a_mean_the_interval_is_the_t_interval(n):
  values = np.random.default_rng(n).normal(size=n)
  weights_rn, chances_r = resample.samples(n)
  assert weights_rn.sum(axis=1) == pytest.approx(1)
  assert chances_r.sum() == pytest.approx(1)
  found = resample.estimate(values.mean(), weights_rn @ values, n)
  expected = statistics.mean_interval(values.tolist())
  # Drawn samples, from seven seeds on, have an error of their own.
  exact = n <= 6
  rel = 1e-9 if exact else 0.06
  assert found.high - found.low == pytest.approx(
    expected.high - expected.low, rel=rel
  )
  if exact:
    half = special.stdtr(n - 1, -abs(values.mean()) / found.error)
    assert found.p_value() == pytest.approx(2 * half)


@pytest.mark.parametrize(("n", "sd"), [(3, 0.005), (3, 0.02), (4, 0.01)])
def test_intervals_of_speed_ups_hold_the_truth_as_often_as_they_say(n, sd):
  count, factor = 300, 1.6
  draw = np.random.default_rng(n)
  loss = ladders.curve("64")
  shape = (count, n, len(BUDGETS))
  shared = draw.normal(size=(count, n, 1))
  base = loss(BUDGETS) + sd * (draw.normal(size=shape) + shared) / 2**0.5
  own = (
    loss(factor * BUDGETS) + sd * (draw.normal(size=shape) + shared) / 2**0.5
  )
  samples_rn, _ = resample.samples(n)
  weights_rn = np.vstack([np.full(n, 1 / n), samples_rn])
  flat = (-1, len(BUDGETS))
  curves = curve.fit(BUDGETS, (weights_rn @ base).reshape(flat))
  needed = curves.budgets((weights_rn @ own).reshape(flat))
  logs = np.log(needed / BUDGETS).mean(axis=1).reshape(count, -1)
  found = [resample.estimate(row[0], row[1:], n) for row in logs]
  truth = math.log(factor)
  held = [e.error is not None and e.low <= truth <= e.high for e in found]
  # Of 300, 0.95 has a standard error of 0.013.
  assert 0.92 <= np.mean(held) <= 0.98
  # The truth is in the middle, not just inside: no bias to speak of.
  assert abs(np.median([e.value for e in found]) - truth) < 0.02
