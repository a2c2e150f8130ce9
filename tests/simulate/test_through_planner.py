"""The protocol as a whole: the planner and the report, sweep after sweep."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import special

from normjax import simulate
from normjax.simulate import Protocol
from tests.simulate.planned import verdicts

# As `configs/sweeps/tuned.py` is tuned: three values, a factor 2 apart.
PER_SEED = Protocol(4, 5, factor=2.0)
BOUND = 0.06


def _error(told, better=0) -> float:
  """Share of sweeps with a wrong verdict; the first `better` are so."""
  return float(
    np.mean(["worse" in row or "better" in row[better:] for row in told])
  )


def _power(told) -> float:
  """Share of sweeps in which the first method is found better."""
  return float(np.mean([row[0] == "better" for row in told]))


def _is_near(share, expected, sweeps, other_sweeps, sds=3.0):
  """Two shares of as many sweeps, of the same chance."""
  variance = expected * (1 - expected) * (1 / sweeps + 1 / other_sweeps)
  return abs(share - expected) < sds * math.sqrt(variance)


def test_shared_tuning_errs_as_simulated():
  """Far above what chance gives: an error that the planner's tuning makes."""
  protocol = Protocol(3, 5, tuning="shared", second_pass=False)
  sweeps = 80
  outcome = simulate.error_of(**dataclasses.asdict(protocol))
  found = _error(verdicts(protocol, sweeps))
  assert outcome.family_wise > 0.25
  assert _is_near(found, outcome.family_wise, sweeps, outcome.sweeps)


def test_per_seed_tuning_keeps_the_error():
  sweeps = 100
  protocol = dataclasses.replace(PER_SEED, methods=3, seeds=3)
  wrong = round(_error(verdicts(protocol, sweeps)) * sweeps)
  # What an error of the bound would exceed in one of a thousand tests.
  assert special.bdtrc(wrong, sweeps, BOUND) > 1e-3
  assert wrong > 0


@pytest.mark.slow
@pytest.mark.parametrize("better", [0, 1])
def test_2000_sweeps_keep_the_error(better):
  """Under the null, and where one method is better by one sd."""
  sweeps = 2000
  told = verdicts(PER_SEED, sweeps, better=better)
  outcome = simulate.run(PER_SEED, better=better, sweeps=20_000)
  error = _error(told, better)
  print(f"family-wise error {error:.4f}, simulated {outcome.family_wise:.4f}")
  assert error <= BOUND
  assert _is_near(error, outcome.family_wise, sweeps, outcome.sweeps)
  if better:
    power = _power(told)
    print(f"power {power:.4f}, simulated {outcome.power:.4f}")
    assert _is_near(power, outcome.power, sweeps, outcome.sweeps)
