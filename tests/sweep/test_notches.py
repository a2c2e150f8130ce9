"""Values one notch beyond a grid, and between its values."""

import math

import pytest

from normjax.sweep import notches

INF = math.inf


@pytest.mark.parametrize(
  ("values", "side", "bounds", "new"),
  [
    ((1e-4, 1e-3, 1e-2), 1, (0, INF), 0.1),
    ((1e-4, 1e-3, 1e-2), -1, (0, INF), 1e-5),
    ((1e-4, 3.2e-4, 1e-3), 1, (0, INF), 3.2e-3),
    ((0.0, 0.1, 0.2), 1, (0, INF), 0.3),
    ((0.1, 0.2, 0.3), -1, (0, INF), 0.05),
    ((0.9, 0.95, 0.99), 1, (0, 1), 0.995),
    ((0.0, 0.1, 0.2), -1, (0, INF), None),
    ((-1.0, 0.0, 1.0), -1, (-INF, INF), -2.0),
    ((16, 32, 64), 1, (0, INF), 128),
    ((1, 2, 4), -1, (0, INF), None),
    ((2, 3), 1, (0, 3), None),
  ],
)
def test_growth_by_a_notch(values, side, bounds, new):
  expected = None
  if new is not None:
    expected = (*values, new) if side > 0 else (new, *values)
  assert notches.grow(values, side, bounds) == expected


def test_growth_stays_in_the_range_of_a_field():
  assert notches.limit("train.label_smoothing", (0.1, 0.2), {}) == (0, 1)
  assert notches.limit("train.num_steps", (2, 4), {})[0] == 1
  assert notches.limit("optimizer.lr", (-1.0, 1.0), {}) == (-INF, INF)


@pytest.mark.parametrize(
  ("values", "chosen", "per_side", "bounds", "new"),
  [
    ((1e-3, 3e-3, 9e-3), 3e-3, 1, (0, INF), [1.73e-3, 5.2e-3]),
    ((0.5, 0.7, 0.9), 0.7, 1, (0, 1), [0.6, 0.8]),
    # Half a notch beyond an edge; at a limit, thirds of the one gap there is.
    ((1.0, 4.0, 16.0), 16.0, 1, (0, INF), [8.0, 32.0]),
    ((1.0, 8.0, 64.0), 64.0, 1, (0, 64.0), [16.0, 32.0]),
    ((0.0, 0.3, 0.6), 0.0, 1, (0, INF), [0.1, 0.2]),
    ((1.0, 8.0, 64.0), 8.0, 2, (0, INF), [2.0, 4.0, 16.0, 32.0]),
    ((16, 32, 64), 32, 1, (0, INF), [23, 45]),
    ((1, 2, 4), 2, 1, (0, INF), None),
  ],
)
def test_values_between_the_best_and_its_neighbours(
  values, chosen, per_side, bounds, new
):
  assert notches.between(values, chosen, per_side, bounds) == new
