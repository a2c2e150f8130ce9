"""The protocol as a whole: the planner and the report, sweep after sweep."""

import math

import numpy as np

from normjax import simulate
from normjax.report import stats
from normjax.simulate import Protocol
from tests.simulate.planned import verdicts

DECIDED = (stats.BETTER, stats.WORSE)


def _share(events) -> float:
  return float(np.mean(list(events)))


def _error(told) -> float:
  return _share(any(word in DECIDED for word in row) for row in told)


def test_it_agrees_with_the_simulation():
  protocol = Protocol(4, 4, tuning="shared", second_pass=False)
  sweeps = 150
  found = _error(verdicts(protocol, sweeps))
  outcome = simulate.run(protocol)
  p = outcome.family_wise
  sd = math.sqrt(p * (1 - p) * (1 / sweeps + 1 / outcome.sweeps))
  assert p > 0.1  # Far from what no tuning gives.
  assert abs(found - p) < 3 * sd
