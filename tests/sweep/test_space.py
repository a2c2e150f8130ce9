"""The algebra of spaces."""

from pathlib import Path

import numpy as np
import pytest

from normjax import errors, sweep
from normjax.sweep import chain, grid, log_grid, point, product, zip_


def test_product_varies_the_last_space_fastest():
  assert product(grid("a", [1, 2]), grid("b.c", ["xy", "z"])) == [
    {"a": 1, "b.c": "xy"},
    {"a": 1, "b.c": "z"},
    {"a": 2, "b.c": "xy"},
    {"a": 2, "b.c": "z"},
  ]


def test_grid_of_several_keys_is_their_product():
  expected = product(grid("a", [1, 2]), grid("b", [3, 4]))
  assert grid({"a": [1, 2], "b": [3, 4]}) == expected
  assert grid(a=[1, 2], b=range(3, 5)) == expected


def test_grid_takes_numpy_values_as_plain_ones():
  (only,) = grid("a", np.array([3], np.int32))
  assert type(only["a"]) is int


def test_zip_goes_side_by_side_and_chain_one_after_the_other():
  assert zip_(grid("a", [1, 2]), grid("b", [3, 4])) == [
    {"a": 1, "b": 3},
    {"a": 2, "b": 4},
  ]
  assert chain(grid("a", [1]), point({"b.c": 2}, d=3)) == [
    {"a": 1},
    {"b.c": 2, "d": 3},
  ]


def test_empty_product_is_the_one_point_that_changes_nothing():
  assert product() == [{}]
  assert product([], grid("a", [1])) == []


def test_results_are_copies():
  base = grid("a", [1])
  product(base)[0]["a"] = 2
  chain(base)[0]["a"] = 2
  assert base == [{"a": 1}]


def test_a_key_set_twice_is_named():
  with pytest.raises(
    errors.UserError, match=r"'a.b' is set twice.* 1 and to 2"
  ):
    product(grid("a.b", [1]), grid("a.b", [2]))
  with pytest.raises(errors.UserError, match="'a' is set twice"):
    zip_(grid("a", [1, 2]), grid("a", [1, 3]))


@pytest.mark.parametrize("values", ["muon", 3, None, []])
def test_grid_refuses_what_is_no_list(values):
  with pytest.raises(errors.UserError, match=r"optimizer.name"):
    grid("optimizer.name", values)


def test_zip_refuses_unequal_lengths():
  with pytest.raises(errors.UserError, match="lengths 2, 3"):
    zip_(grid("a", [1, 2]), grid("b", [1, 2, 3]))


def test_log_grid_is_readable():
  assert log_grid(1e-4, 1e-2, 5) == [1e-4, 3.2e-4, 1e-3, 3.2e-3, 1e-2]
  assert log_grid(0.02, 0.04, 2) == [0.02, 0.04]


def test_log_grid_adds_digits_where_values_would_coincide():
  values = log_grid(1.0, 1.01, 5)
  assert values == sorted(set(values))
  # Ratios are those of the grid to the three digits that it took at least.
  np.testing.assert_allclose(
    values, np.geomspace(1.0, 1.01, 5), rtol=0.5 * 10**-3
  )


@pytest.mark.parametrize("arguments", [(0, 1, 3), (2, 1, 3), (1, 2, 1)])
def test_log_grid_refuses_bad_ranges(arguments):
  with pytest.raises(errors.UserError, match="0 < low < high"):
    log_grid(*arguments)


@pytest.mark.parametrize(
  "given", [(3, [1]), (["a"], [1]), ({"a": [1]}, [2]), (None, [1]), (3,)]
)
def test_a_key_that_is_none_is_not_dropped(given):
  with pytest.raises(errors.UserError, match="grid needs a dotted path"):
    grid(*given)


def test_no_file_hides_a_public_name():
  """A module that is imported takes the place of a function of its name."""
  files = {path.stem for path in Path(sweep.__file__).parent.iterdir()}
  assert files & set(sweep.__all__) == set()
