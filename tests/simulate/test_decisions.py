"""Tests whose premises a metric breaks keep their error all the same."""

import math

import pytest

from normjax.simulate import decisions

COMPARISONS = 1500
# Three standard errors above what a test of level 0.05 decides.
BOUND = 0.05 + 3 * math.sqrt(0.05 * 0.95 / COMPARISONS)


@pytest.mark.parametrize(("seeds", "chance"), [(6, 0.1), (8, 0.4), (10, 0.0)])
def test_divergence_as_the_worst_rank(seeds, chance):
  share = decisions.with_divergence(seeds, chance, COMPARISONS)
  assert 0 < share < BOUND


def test_ranks_of_five_seeds_decide_nothing():
  assert decisions.with_divergence(5, 0.1, 300) == 0


@pytest.mark.parametrize(
  ("seeds", "examples", "accuracy"),
  [(3, 360, 0.98), (5, 360, 0.98), (3, 10_000, 0.95), (3, 360, 0.999)],
)
def test_accuracies_that_are_counted(seeds, examples, accuracy):
  assert decisions.of_counts(seeds, examples, accuracy, COMPARISONS) < BOUND
