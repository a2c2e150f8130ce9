"""The noise floor: how far one method is from itself with other seeds."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from normjax.statistics.intervals import ALPHA

LEAST_SEEDS = 4
# With more seeds, splits are drawn: all are 25,740 with 15 seeds.
_MOST_SEEDS = 12
_NUM_DRAWN = 5_000


class NoiseFloor(NamedTuple):
  """Differences of a method to itself.

  Attributes:
    half_width: 95% of the differences lie within ± this; all, where there are
      fewer than 20.
    n: seeds that the method has, and that each side is scaled to.
    size: seeds per side of a split.
    num_splits: differences that were taken.
  """

  half_width: float
  n: int
  size: int
  num_splits: int


def noise_floor(values: Sequence[float]) -> NoiseFloor | None:
  """Differences between disjoint sets of a method's seeds, of equal n.

  Every way to take two disjoint sets of h = floor(n / 2) of the n seeds gives
  a difference D of two means. Over these ways D has mean 0 and the mean square
  2 s² / h, s² the variance with n - 1; two sets of n new seeds each differ with
  variance 2 sigma² / n. So

      D sqrt(h / n)

  is a difference at n seeds per side, and its mean square is right on average.
  There are few splits, so the band is as uncertain as s is: a mark to see a
  size by, no test. Of normal values it holds a new difference of two sets of n
  seeds in 75% (n = 4), 85% (5), 87% (6), 90% (8) and 91% (10) of 4,000
  simulations. Pairing is not in it: differences of pairs, which the verdicts
  are of, are often smaller.

  Args:
    values: one per seed.

  Returns:
    None with fewer than `LEAST_SEEDS` values.
  """
  n = len(values)
  if n < LEAST_SEEDS:
    return None
  x = np.asarray(values, float)
  size = n // 2
  splits = _splits(n, size) if n <= _MOST_SEEDS else _drawn(n, size)
  gaps = [abs(x[list(a)].mean() - x[list(b)].mean()) for a, b in splits]
  scaled = np.asarray(gaps) * math.sqrt(size / n)
  # Of few splits, all: a quantile between two of them would leave one out.
  half = float(np.quantile(scaled, 1 - ALPHA, method="higher"))
  return NoiseFloor(half, n, size, len(gaps))


def _splits(n: int, size: int) -> Iterator[tuple[Sequence[int], Sequence[int]]]:
  """Every two disjoint sets, each pair once."""
  for first in itertools.combinations(range(n), size):
    others = [i for i in range(n) if i not in first]
    for second in itertools.combinations(others, size):
      if first < second:
        yield first, second


def _drawn(n: int, size: int) -> Iterator[tuple[Sequence[int], Sequence[int]]]:
  """Two disjoint sets at a time, the same ones each time it is asked."""
  rng = np.random.default_rng(0)
  for _ in range(_NUM_DRAWN):
    order = rng.permutation(n)
    yield order[:size], order[size : 2 * size]
