"""The noise floor against a band that is known, and against simulation."""

import itertools
import math

import numpy as np
import pytest

from normjax import statistics
from normjax.statistics import noise


def test_by_hand():
  # The halves of 0, 1, 2, 4: means differ by 2.5, 1.5 and 0.5.
  floor = statistics.noise_floor([0.0, 1.0, 2.0, 4.0])
  assert floor.half_width == pytest.approx(2.5 * math.sqrt(2 / 4))
  assert floor[1:] == (4, 2, 3)
  assert statistics.noise_floor([1.0, 2.0, 3.0]) is None


@pytest.mark.parametrize("n", [4, 5, 6, 7])
def test_every_split_once_and_its_mean_square(n):
  """E[D²] h / n = 2 s² / n, exactly, whatever the seeds are."""
  size = n // 2
  x = np.random.default_rng(n).normal(size=n)
  splits = list(noise._splits(n, size))
  ways = math.comb(n, size) * math.comb(n - size, size) // 2
  assert len({frozenset(map(frozenset, pair)) for pair in splits}) == ways
  assert all(not set(a) & set(b) for a, b in splits)
  gaps = [x[list(a)].mean() - x[list(b)].mean() for a, b in splits]
  assert np.mean(np.square(gaps)) * size / n == pytest.approx(
    2 * x.var(ddof=1) / n
  )


def test_drawn_splits_are_as_all_are():
  x = list(np.random.default_rng(0).normal(size=13))
  drawn = statistics.noise_floor(x)
  assert drawn == statistics.noise_floor(x)
  sets = itertools.islice(noise._splits(13, 6), None)
  array = np.asarray(x)
  gaps = [abs(array[list(a)].mean() - array[list(b)].mean()) for a, b in sets]
  every = np.quantile(gaps, 0.95) * math.sqrt(6 / 13)
  assert drawn.half_width == pytest.approx(every, rel=0.03)


def test_how_often_it_holds_a_new_difference():
  """With eight seeds in 90%, as the docstring says."""
  rng = np.random.default_rng(0)
  seeds, left, right = rng.normal(size=(3, 400, 8))
  gaps = np.abs(left.mean(1) - right.mean(1))
  halves = [statistics.noise_floor(row).half_width for row in seeds]
  # Its own standard error is 1.5%.
  assert np.mean(gaps <= halves) == pytest.approx(0.90, abs=3 * 0.015)
