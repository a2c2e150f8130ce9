"""Means with t-intervals, and the paired t-test that goes with them."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from normjax.statistics import distributions

ALPHA = 0.05  # Of a family of comparisons; intervals are of 1 - ALPHA.


@dataclasses.dataclass(frozen=True)
class Interval:
  """Mean of n values with its two-sided t-interval.

  Attributes:
    mean: None where n = 0.
    low: lower end; None where n < 2.
    high: upper end; None where n < 2.
    sd: standard deviation with n - 1, at least what the values' resolution
      lets it be; None where n < 2, 0 where the values do not tell it.
  """

  n: int
  mean: float | None = None
  low: float | None = None
  high: float | None = None
  sd: float | None = None

  @property
  def half_width(self) -> float | None:
    """Half the interval's length; None where n < 2."""
    return None if self.high is None else self.high - self.mean


def mean_interval(values: Sequence[float], least_sd: float = 0.0) -> Interval:
  """Mean and 95% t-interval: mean ± t(0.975, n - 1) sd / sqrt(n).

  Args:
    values: one per seed; may be empty.
    least_sd: what sd is at least, see `resolution_sd`.
  """
  n = len(values)
  if n == 0:
    return Interval(0)
  mean = float(np.mean(values))
  if n == 1:
    return Interval(1, mean)
  sd = max(float(np.std(values, ddof=1)), least_sd)
  t = distributions.t_quantile(n - 1, 1 - ALPHA / 2)
  half = float(t * sd / math.sqrt(n))
  return Interval(n, mean, mean - half, mean + half, sd)


def resolution_sd(resolution: float) -> float:
  """Least standard deviation of a difference: resolution / sqrt(6).

  A value that is rounded to a multiple of h, as an accuracy over N examples is
  to h = 1 / N, is off by a uniform number of width h: of variance h² / 12. The
  difference of two has twice that.
  """
  return resolution / math.sqrt(6)


def weighted_resolution_sd(
  weights: Sequence[float], resolutions: Sequence[float]
) -> float:
  """Least standard deviation of a weighted sum: sqrt(sum (w h)^2 / 12).

  Each value is off by a uniform number of width h, independently of the
  others; w times it has variance (w h)² / 12. Of weights 1 and -1 and one h it
  is `resolution_sd`.

  Args:
    weights: one per term.
    resolutions: of the terms' metrics; 0: it has none that is known.
  """
  widths = (w * h for w, h in zip(weights, resolutions, strict=True))
  return math.hypot(*widths) / math.sqrt(12)


def paired_interval(
  values: Mapping[int, float],
  baseline: Mapping[int, float],
  resolution: float = 0.0,
) -> Interval:
  """Mean and 95% t-interval of the differences over the common seeds.

  Args:
    values: seed to metric of the method.
    baseline: seed to metric of the baseline.
    resolution: of the metric; 0: it has none that is known.

  Returns:
    The interval, as `sum_interval` has it.
  """
  return sum_interval(
    ((1.0, values), (-1.0, baseline)), resolution_sd(resolution)
  )


def sum_interval(
  terms: Sequence[tuple[float, Mapping[int, float]]], least_sd: float = 0.0
) -> Interval:
  """Mean and 95% t-interval of a weighted sum over the common seeds.

  Args:
    terms: weight, and seed to metric, of each.
    least_sd: what sd is at least, see `weighted_resolution_sd`.

  Returns:
    The interval. Sums that are equal but for the rounding of float32, in which
    metrics are computed, have sd = 0 where `least_sd` is 0: their spread is not
    known.
  """
  seeds = sorted(set.intersection(*(set(values) for _, values in terms)))
  sums = [sum(w * values[seed] for w, values in terms) for seed in seeds]
  interval = mean_interval(sums, least_sd)
  if interval.n < 2 or not interval.sd:
    return interval
  largest = max(abs(w * values[s]) for w, values in terms for s in seeds)
  if interval.sd < np.spacing(np.float32(largest)):
    return Interval(
      interval.n, interval.mean, interval.mean, interval.mean, 0.0
    )
  return interval


def t_test(interval: Interval) -> float | None:
  """Two-sided p-value of mean = 0; None where n < 2 or the spread is not known.

  Values that are all 0 have p = 1. Equal values that are not 0 have none: a
  spread of 0 in a few seeds does not say that there is none.
  """
  if interval.n < 2:
    return None
  if not interval.sd:
    return 1.0 if interval.mean == 0 else None
  t = interval.mean / (interval.sd / math.sqrt(interval.n))
  return float(2 * distributions.t_cdf(interval.n - 1, -abs(t)))
