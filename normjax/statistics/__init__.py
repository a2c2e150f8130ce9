"""Statistics of comparisons over seeds: pure functions of numbers.

They know no run and no file, so that a report, a dry run and a simulation of
the protocol decide by the same code.

    intervals    t-intervals of means and of paired differences, the t-test
    signed_rank  the exact signed-rank test, in which divergence is a rank
    correction   Holm's adjustment for the number of comparisons
    power        what n seeds can decide, and how many seeds would
    noise        how far the baseline is from itself
    power_law    an exponent with its interval, by a line of logarithms

"scipy.stats" takes half a second to import: its distributions are used as the
functions of `scipy.special` (`distributions`).
"""

from normjax.statistics.correction import holm
from normjax.statistics.intervals import (
  ALPHA,
  Interval,
  mean_interval,
  paired_interval,
  resolution_sd,
  sum_interval,
  t_test,
  weighted_resolution_sd,
)
from normjax.statistics.noise import NoiseFloor, noise_floor
from normjax.statistics.power import (
  MAX_SEEDS,
  POWER,
  Attainable,
  Seeds,
  attainable,
  seeds_needed,
)
from normjax.statistics.signed_rank import SignedRank, signed_rank

__all__ = [
  "ALPHA",
  "MAX_SEEDS",
  "POWER",
  "Attainable",
  "Interval",
  "NoiseFloor",
  "Seeds",
  "SignedRank",
  "attainable",
  "holm",
  "mean_interval",
  "noise_floor",
  "paired_interval",
  "resolution_sd",
  "seeds_needed",
  "signed_rank",
  "sum_interval",
  "t_test",
  "weighted_resolution_sd",
]
