"""Grids of trials: the best value, its edges, growth."""

import math

import ml_collections
import pytest

from normjax import errors
from normjax.sweep import Tune, tune

INF = math.inf
CONFIG = ml_collections.ConfigDict({"optimizer": {"lr": 0.2, "name": "adamw"}})


def test_axes_are_sorted_numbers():
  assert tune.axes(Tune({"optimizer.lr": [3, 1, 2]}), lambda: CONFIG) == {
    "optimizer.lr": (1, 2, 3)
  }


def test_a_space_may_depend_on_the_method():
  def space(config):
    return {"optimizer.lr": [config.optimizer.lr, 1.0]}

  assert tune.axes(Tune(space), lambda: CONFIG) == {"optimizer.lr": (0.2, 1.0)}


def test_relative_values_are_factors_of_the_method_s_own():
  relative = Tune({"optimizer.lr": [0.5, 1, 2]}, relative=True)
  assert tune.axes(relative, lambda: CONFIG) == {
    "optimizer.lr": (0.1, 0.2, 0.4)
  }
  with pytest.raises(errors.UserError, match=r"optimizer.name.* got 'adamw'"):
    tune.axes(Tune({"optimizer.name": [1, 2]}, relative=True), lambda: CONFIG)


@pytest.mark.parametrize("values", [[1], [1, 1], []])
def test_an_axis_needs_two_values(values):
  with pytest.raises(errors.UserError, match="two or more different values"):
    tune.axes(Tune({"a": values}), lambda: CONFIG)


def test_best_is_lowest_then_diverged_then_failed():
  tried = [(1,), (2,), (3,)]
  assert tune.best(tried, {(1,): 2.0, (2,): 1.0, (3,): INF}) == (2,)
  assert tune.best(tried, {(1,): None, (2,): INF, (3,): INF}) == (2,)
  assert tune.best(tried, {(1,): 1.0, (2,): 1.0, (3,): 1.0}) == (1,)


def test_edges_are_those_of_the_trials_with_a_result():
  grid = {"a": (1.0, 2.0, 3.0)}
  scores = {(1.0,): 3.0, (2.0,): 1.0, (3.0,): 2.0}
  assert tune.edges(grid, scores, (2.0,), {}) == {}
  assert tune.edges(grid, scores, (1.0,), {}) == {0: -1}
  assert tune.edges(grid, scores, (3.0,), {}) == {0: 1}
  scores[3.0,] = None
  assert tune.edges(grid, scores, (2.0,), {}) == {0: 1}
  scores[3.0,] = INF  # a result: too large a value, and known to be
  assert tune.edges(grid, scores, (2.0,), {}) == {}


def test_a_limit_is_no_edge():
  grid = {"a": (0.0, 0.1)}
  scores = {(0.0,): 1.0, (0.1,): 2.0}
  assert tune.edges(grid, scores, (0.0,), {}) == {}
  assert tune.edges(grid, scores, (0.1,), {"a": (0, 0.1)}) == {}
  assert tune.edges(grid, scores, (0.1,), {"a": (0, 0.5)}) == {0: 1}


def test_names_have_no_edge():
  scores = {("x",): 1.0, ("y",): 2.0}
  assert tune.edges({"a": ("x", "y")}, scores, ("x",), {}) == {}


def test_growth_keeps_all_methods_level():
  grids = {"one": {"a": (1.0, 2.0, 4.0)}, "two": {"b": (1.0, 2.0, 4.0)}}
  chosen = {"one": (4.0,), "two": (2.0,)}
  grown = tune.grow_all(grids, chosen, {"one": {0: 1}, "two": {}}, {})
  assert grown == {
    "one": {"a": (1.0, 2.0, 4.0, 8.0)},
    "two": {"b": (1.0, 2.0, 4.0, 8.0)},
  }
  assert grids["one"] == {"a": (1.0, 2.0, 4.0)}


def test_what_cannot_grow_there_grows_on_the_other_side():
  grids = {"one": {"a": (1, 2, 4)}, "two": {"a": (1, 2, 4)}}
  grown = tune.grow_all(
    grids, {"one": (1,), "two": (4,)}, {"one": {0: -1}, "two": {0: 1}}, {}
  )
  assert grown == {"one": {"a": (1, 2, 4, 8)}, "two": {"a": (1, 2, 4, 8)}}


def test_what_cannot_grow_at_all_stays():
  grids = {"one": {"a": (1, 2)}, "two": {"a": (1, 2)}}
  chosen = {"one": (1,), "two": (1,)}
  sides = {"one": {0: -1}, "two": {}}
  assert tune.grow_all(grids, chosen, sides, {"a": (0, 3)}) is None


def test_factors_of_a_whole_number_are_whole_where_they_can_be():
  config = ml_collections.ConfigDict({"model": {"depth": 8}})
  space = Tune({"model.depth": [0.5, 1, 2]}, relative=True)
  values = tune.axes(space, lambda: config)["model.depth"]
  assert values == (4, 8, 16)
  assert all(type(value) is int for value in values)


def test_a_number_is_tuned_for_all_that_have_it_or_for_none():
  grids = {"muon": {"lr": (1, 2), "b2": (1, 2)}, "adamw": {"lr": (1, 2)}}
  leaves = {"muon": {"lr": 1, "b2": 0.9}, "adamw": {"lr": 1, "b2": 0.95}}
  methods = {"muon": {}, "adamw": {}}
  with pytest.raises(errors.UserError, match=r"'b2'.*'muon', not for 'adamw'"):
    tune.check_all_or_none(grids, methods, leaves)
  # A row about its value, and a method without the number, may leave it.
  tune.check_all_or_none(grids, {"muon": {}, "adamw": {"b2": 0.95}}, leaves)
  tune.check_all_or_none(grids, methods, {**leaves, "adamw": {"lr": 1}})
