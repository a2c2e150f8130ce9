"""What a number of seeds can decide, and how many seeds would decide."""

import dataclasses
import functools
import math
from typing import NamedTuple

import numpy as np

from normjax.statistics import distributions
from normjax.statistics.intervals import ALPHA, Interval

POWER = 0.8
# Past this many seeds the answer is "too many", whatever the number.
MAX_SEEDS = 1000
# Fewer seeds do not tell the spread well enough to plan with.
LEAST_SEEDS = 5
# A mean difference of this many of its own standard deviations over seeds is
# what a comparison of few seeds hopes for; larger ones are seen by eye.
LARGE_EFFECT_SD = 3.0


@dataclasses.dataclass(frozen=True)
class Attainable:
  """What the first step of Holm's adjustment asks of n seeds.

  Attributes:
    n: pairs of seeds.
    num_comparisons: with the baseline.
    exact: whether by the signed-rank test, else by the t-test.
    smallest_p: after correction. Of the signed-rank test the least that there
      is, m 2 / 2^n. A t-test has no least: of a mean difference of
      `LARGE_EFFECT_SD` times its spread, exactly there.
    needed_t: |t| at which the first verdict falls, p = 0.05 / m; None for a
      signed-rank test, or n < 2.
    enough_seeds: the smallest n at which `smallest_p` is below 0.05.
  """

  n: int
  num_comparisons: int
  exact: bool
  smallest_p: float
  needed_t: float | None
  enough_seeds: int

  @property
  def can_decide(self) -> bool:
    """Whether a verdict is within reach."""
    return self.smallest_p < ALPHA

  @property
  def needed_sd(self) -> float | None:
    """`needed_t` as a mean difference, in its standard deviations."""
    return self.needed_t and self.needed_t / math.sqrt(self.n)

  def __str__(self) -> str:
    """In one or two sentences."""
    seeds = "1 seed" if self.n == 1 else f"{self.n} seeds"
    m = self.num_comparisons
    comparisons = "1 comparison" if m == 1 else f"{m} comparisons"
    head = f"{seeds} and {comparisons}:"
    if self.n < 2:
      return (
        f"{head} no verdict is possible, a paired test needs two seeds at"
        f" least, and {self.enough_seeds} to decide."
      )
    p = f"{self.smallest_p:.2g}"
    if self.exact:
      text = (
        f"{head} the smallest p of an exact signed-rank test is 2 / 2^{self.n}"
        f" = {2 / 2**self.n:.3g}, and {p} after correction"
      )
      if self.can_decide:
        return f"{text}."
      return f"{text}: nothing can be decided. {self.enough_seeds} seeds could."
    text = (
      f"{head} the first verdict needs |t| > {self.needed_t:.3g} (p <"
      f" {ALPHA / m:.2g}), a mean difference of {self.needed_sd:.2g} times its"
      " standard deviation over seeds"
    )
    if self.can_decide:
      return f"{text}."
    return (
      f"{text}. These are few seeds: a difference of {LARGE_EFFECT_SD:g}"
      f" standard deviations has p (Holm) = {p}, and below {ALPHA} with"
      f" {self.enough_seeds} seeds."
    )


def attainable(
  n: int, num_comparisons: int, *, exact: bool = False
) -> Attainable:
  """What n paired seeds can decide after Holm's correction.

  Args:
    n: pairs of seeds.
    num_comparisons: with the baseline; at least 1.
    exact: whether the test is the signed-rank one, else the t-test.
  """
  m = num_comparisons
  smallest_p = _smallest_p(n, m, exact)
  enough = next(
    k for k in range(2, MAX_SEEDS) if _smallest_p(k, m, exact) < ALPHA
  )
  needed_t = None
  if n > 1 and not exact:
    needed_t = float(distributions.t_quantile(n - 1, 1 - ALPHA / (2 * m)))
  return Attainable(n, m, exact, smallest_p, needed_t, enough)


def _smallest_p(n: int, num_comparisons: int, exact: bool) -> float:
  if n < 2:
    return 1.0
  if exact:
    p_value = 2.0 ** (1 - n)
  else:
    t = LARGE_EFFECT_SD * math.sqrt(n)
    p_value = float(2 * distributions.t_cdf(n - 1, -t))
  return min(1.0, num_comparisons * p_value)


class Seeds(NamedTuple):
  """How many seeds a verdict needs, as far as the spread is known.

  Attributes:
    low: with the spread at the lower end of its 95% interval.
    observed: with the spread as observed.
    high: with the spread at the upper end; `MAX_SEEDS` stands for more.
  """

  low: int
  observed: int
  high: int


def seeds_needed(interval: Interval, num_comparisons: int = 1) -> Seeds | None:
  """Seeds at which a mean difference as observed is found with power 80%.

  The spread of few seeds is itself uncertain: of a normal sample,
  (n - 1) s² / sigma² is chi-square with n - 1 degrees of freedom. With s at
  the ends of sigma's 95% interval the number of seeds is a range, which holds
  the right number in 95% of samples if the mean difference is the true one.
  The mean is as uncertain: the range answers how many seeds would show it if
  it were so.

  Args:
    interval: of paired differences.
    num_comparisons: m; the test is then at 0.05 / m, Holm's first step.

  Returns:
    None where n < `LEAST_SEEDS`, or the difference or its spread is 0.
  """
  if interval.n < LEAST_SEEDS or not interval.mean or not interval.sd:
    return None
  df = interval.n - 1
  tail = ALPHA / 2
  effect = abs(interval.mean) / interval.sd
  ends = [
    math.sqrt(df / distributions.chi2_upper_quantile(df, p))
    for p in (tail, 1 - tail)
  ]
  low, high = (_seeds(effect / end, num_comparisons) for end in ends)
  return Seeds(low, _seeds(effect, num_comparisons), high)


def _seeds(effect_sd: float, num_comparisons: int) -> int:
  """Smallest n with n >= ((t(1 - a / 2, n - 1) + t(0.8, n - 1)) / effect)².

  a = 0.05 / m. It puts a shifted t for the noncentral one: right to a seed.
  """
  ns = np.arange(2, MAX_SEEDS)
  enough = ns >= np.square(_quantiles(num_comparisons) / effect_sd)
  return int(ns[np.argmax(enough)]) if enough.any() else MAX_SEEDS


@functools.cache
def _quantiles(num_comparisons: int) -> np.ndarray:
  """t(1 - a / 2, n - 1) + t(0.8, n - 1) of n = 2, 3, …"""
  df = np.arange(1, MAX_SEEDS - 1)
  tail = ALPHA / (2 * num_comparisons)
  return distributions.t_quantile(df, 1 - tail) + distributions.t_quantile(
    df, POWER
  )
