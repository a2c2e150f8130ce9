"""The tests on many sweeps at once are those of the report on each."""

import numpy as np
import pytest

from normjax import statistics
from normjax.simulate import Protocol, verdicts
from tests.simulate.planned import Planned


def test_they_are_the_report_s():
  sweeps, n, m = 30, 4, 5
  random = np.random.default_rng(0)
  losses = random.standard_normal((sweeps, n, m))
  losses[:, :, 2] -= 2.0  # Some verdicts are decided.
  mean, p = verdicts.paired_tests(losses)
  adjusted = verdicts.holm(p)
  planned = Planned(Protocol(m, n, tuning="none"))
  words = set()
  for s in range(sweeps):
    made = planned.run(
      lambda point, s=s: losses[s, point.seed, int(point.method)]
    )
    rows = planned.rows(made)[1:]
    found = [row.difference for row in rows]
    assert [d.interval.mean for d in found] == pytest.approx(mean[s])
    assert [d.p_value for d in found] == pytest.approx(p[s], abs=1e-12)
    assert [d.p_holm for d in found] == pytest.approx(adjusted[s], abs=1e-12)
    told = [row.verdict for row in rows]
    words |= set(told)
    decided = adjusted[s] < statistics.ALPHA
    better = np.where(mean[s] < 0, "better", "worse")
    assert told == list(np.where(decided, better, "not distinguishable"))
  assert words == {"better", "not distinguishable"}
