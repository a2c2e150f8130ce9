"""The error of one comparison of equals, where the t-test's premises fail.

By `normjax.statistics` itself, comparison after comparison: runs that diverge
and rank worst, and metrics that are counted.
"""

import math

import numpy as np

from normjax import statistics


def with_divergence(
  seeds: int, chance: float, comparisons: int, seed: int = 0
) -> float:
  """Share of comparisons of equals that the exact signed-rank test decides.

  Args:
    seeds: pairs of runs.
    chance: of a run to diverge; it then ranks worst, and two are equal.
    comparisons: how many.
    seed: of the random stream.
  """
  random = np.random.default_rng(seed)
  shape = (comparisons, seeds, 2)
  losses = np.where(
    random.random(shape) < chance, math.inf, random.standard_normal(shape)
  )
  both = np.isinf(losses).all(-1)
  losses[both] = 0.0  # inf - inf has no size.
  differences = losses[..., 0] - losses[..., 1]
  p_values = [statistics.signed_rank(row).p_value for row in differences]
  return float(np.mean(np.less(p_values, statistics.ALPHA)))


def of_counts(
  seeds: int,
  examples: int,
  accuracy: float,
  comparisons: int,
  *,
  knows_resolution: bool = True,
  seed: int = 0,
) -> float:
  """Share of comparisons of equal accuracies that the paired t-test decides.

  Args:
    seeds: pairs of runs.
    examples: that an accuracy is counted over.
    accuracy: of every run on average; each example is right with this chance.
    comparisons: how many.
    knows_resolution: whether the test knows that values are multiples of
      1 / examples; a spread of 0 is then no certainty.
    seed: of the random stream.
  """
  random = np.random.default_rng(seed)
  shape = (comparisons, 2, seeds)
  values = random.binomial(examples, accuracy, shape) / examples
  resolution = 1 / examples if knows_resolution else 0.0
  decided = 0
  for own, other in values:
    interval = statistics.paired_interval(
      dict(enumerate(own)), dict(enumerate(other)), resolution
    )
    p_value = statistics.t_test(interval)
    decided += p_value is not None and p_value < statistics.ALPHA
  return decided / comparisons
