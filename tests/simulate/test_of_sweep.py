"""A planned sweep's error, for its dry run and its report."""

from normjax import simulate
from normjax.record.comparison import Search, Tuning

GRID = Search("grid", True, 2, 3, 2.0)
PER_SEED = tuple(Tuning((1000 + s,), 7, s) for s in range(5))


def test_a_grid():
  found = simulate.of_sweep(4, 5, PER_SEED, GRID)
  assert found == simulate.error_of(
    4, 5, values=3, factor=2.0, tuning="per_seed"
  )
  shared = simulate.of_sweep(4, 5, (Tuning((7, 8, 9), 21),), GRID)
  assert shared.protocol.tuning == "shared"
  assert shared.protocol.tuning_seeds == 3
  assert shared.family_wise > found.family_wise


def test_quasi_random_points_have_their_mean_distance():
  search = Search("quasi_random", False, 0, 2, 256.0)
  found = simulate.of_sweep(4, 5, (Tuning((7, 8), 16),), search)
  assert found.protocol == simulate.Protocol(
    4, 5, 8, 2.0, "shared", 2, False, 0, "quasi_random"
  )


def test_what_is_not_simulated():
  tunings = PER_SEED
  assert simulate.of_sweep(4, 5, (), None) is None
  assert simulate.of_sweep(4, 5, tunings, None) is None  # A plan of before.
  assert simulate.of_sweep(1, 5, tunings, GRID) is None
  assert simulate.of_sweep(4, 1, tunings[:1], GRID) is None
  assert simulate.of_sweep(4, 5, tunings, GRID, exact=True) is None
  assert simulate.of_sweep(4, 5, tunings, GRID, num_tuned=2) is None
  names = Search("grid", True, 2, 0, None)
  assert simulate.of_sweep(4, 5, tunings, names) is None
  one_point = Search("quasi_random", False, 0, 2, 256.0)
  assert simulate.of_sweep(4, 5, (Tuning((7,), 1),), one_point) is None
  # Values that are nearly one, or further apart than a float says.
  for factor in (1.0, float("inf")):
    close = Search("grid", True, 2, 3, factor)
    assert simulate.of_sweep(4, 5, tunings, close) is None
  descent = Search("coordinate", True, 2, 3, 2.0)
  assert simulate.of_sweep(4, 5, tunings, descent) is None
