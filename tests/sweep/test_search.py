"""Searches: which trials they ask for, and what they find."""

import math

import pytest

from normjax import errors
from normjax.sweep import Tune, search

RATES = (0.01, 0.1, 1.0)


def run(name, grids, score, own=None, seed=7, **options):
  """What a search finds, the trials of each method, the sizes of the rounds.

  `score` is from a label and values to a number.
  """
  tune = Tune({"unused": (1, 2)}, search=name, **options)
  own = own or {
    label: tuple(None for _ in grid) for label, grid in grids.items()
  }
  rounds = search.SEARCHES.get(name)(grids, tune, own=own, seed=seed)
  scores = {label: {} for label in grids}
  sizes = []
  asked = next(rounds)
  while True:
    before = sum(map(len, scores.values()))
    for label, trials in asked.trials.items():
      scores[label] |= {values: score(label, values) for values in trials}
    sizes.append(sum(map(len, scores.values())) - before)
    try:
      asked = rounds.send(scores)
    except StopIteration as over:
      return over.value, scores, sizes


def bowl(**optimum):
  """A loss that is quadratic in the logarithm of each value, by method."""

  def score(label, values):
    best = optimum[label]
    return sum(
      math.log(value / at) ** 2 for value, at in zip(values, best, strict=True)
    )

  return score


def test_the_second_pass_finds_what_lies_between():
  grids = {"x": {"a": RATES}, "y": {"a": RATES}}
  found, scores, sizes = run("grid", grids, bowl(x=(0.3,), y=(0.1,)))
  assert sizes == [6, 4]
  assert found["x"] == search.Found((0.316,), on_edge=False)
  assert found["y"] == search.Found((0.1,), on_edge=False)
  assert set(scores["x"]) - set(scores["y"]) == set()


def test_a_best_on_the_edge_is_bracketed_by_half_a_notch():
  grids = {"x": {"a": RATES}}
  # 1.0 is best of the grid, which may not grow; half a notch beyond is worse.
  found, scores, _ = run("grid", grids, bowl(x=(1.2,)), max_extensions=0)
  assert sorted(scores["x"])[-1] == (3.16,)
  assert found["x"] == search.Found((1.0,), on_edge=False)
  found, _, _ = run("grid", grids, bowl(x=(9.0,)), max_extensions=0)
  assert found["x"] == search.Found((3.16,), on_edge=True)


def test_the_second_pass_moves_one_axis_at_a_time():
  grids = {"x": {"a": RATES, "b": RATES, "c": ("u", "v")}}
  score = lambda _, v: bowl(x=(0.3, 0.1))("x", v[:2])  # noqa: E731
  found, scores, sizes = run("grid", grids, score)
  assert sizes == [18, 2, 2]  # "u" and "v" have no midpoint
  assert found["x"].values == (0.316, 0.1, "u")
  assert len(scores["x"]) == 22
  # Each from what the one before it found.
  score = lambda _, v: bowl(x=(0.3, 0.3))("x", v[:2])  # noqa: E731
  found, _, sizes = run("grid", grids, score)
  assert sizes == [18, 2, 2]
  assert found["x"].values == (0.316, 0.316, "u")


def test_whole_numbers_without_room_have_no_second_pass():
  _, _, sizes = run("grid", {"x": {"a": (1, 2, 3)}}, bowl(x=(2.0,)))
  assert sizes == [3, 0]
  # Nor has the other method, which has room: budgets are equal.
  grids = {"x": {"a": (1, 2, 3)}, "y": {"a": (10, 20, 30)}}
  _, _, sizes = run("grid", grids, bowl(x=(2.0,), y=(20.0,)))
  assert sizes == [6, 0]


def test_a_method_without_a_key_tries_more_values_of_the_others():
  nine = tuple(0.01 * 10 ** (i / 4) for i in range(9))
  grids = {"x": {"a": RATES, "b": RATES}, "y": {"a": nine}}
  best = bowl(x=(0.01, 0.1), y=(0.1,))
  found, scores, sizes = run("grid", grids, best)
  # x is on an edge, but a notch would give it more trials than y.
  assert sizes == [18, 6, 2]
  assert len(scores["x"]) == len(scores["y"]) == 13
  assert found["y"].values == (nine[4],)
  with pytest.raises(errors.UserError, match=r"'x' has 9 = 3 x 3, 'y' has 3"):
    run("grid", {**grids, "y": {"a": RATES}}, best)


def test_an_equal_second_pass_needs_axes_that_divide():
  grids = {
    "x": {"a": (1.0, 2.0), "b": (1.0, 2.0), "c": (1.0, 2.0)},
    "y": {"a": (1.0, 2.0), "b": (1.0, 2.0, 3.0, 4.0)},
  }
  with pytest.raises(errors.UserError, match="'x' has 3 numeric axes, 'y' has"):
    run("grid", grids, None)


def test_coordinate_descent_goes_from_axis_to_axis():
  grids = {"x": {"a": RATES, "b": RATES}, "y": {"a": RATES, "b": RATES}}
  own = {"x": (0.1, 0.1), "y": (0.1, None)}

  def score(label, values):
    a, b = (math.log10(value) for value in values)
    if label == "y":
      return (a + 1) ** 2 + (b + 1) ** 2  # The best is where it starts.
    return (a + b) ** 2 + 0.1 * (b - 2) ** 2  # A valley that turns.

  found, scores, sizes = run(
    "coordinate", grids, score, own, max_extensions=0, second_pass=False
  )
  # A line of 3, then of 2 new ones; x moves, and looks along a once more.
  assert sizes[:2] == [6, 4]
  assert found["y"].values == (0.1, 0.1)
  assert len(scores["y"]) == 5
  assert len(scores["x"]) == 7
  assert found["x"] == search.Found((1.0, 1.0), on_edge=True)


def test_an_axis_of_coordinate_descent_grows_for_all_and_is_refined():
  grids = {"x": {"a": RATES}, "y": {"a": RATES}}
  found, scores, sizes = run("coordinate", grids, bowl(x=(30.0,), y=(0.1,)))
  assert sizes == [6, 2, 2, 4]  # 10, then 100; then around the best
  assert found["x"].values == (31.6,)
  assert len(scores["x"]) == len(scores["y"]) == 7


def test_coordinate_descent_needs_equal_axes():
  grids = {"x": {"a": RATES}, "z": {"a": RATES}, "y": {"a": (1, 2)}}
  with pytest.raises(errors.UserError, match=r"'x' has \[3\], 'y' has \[2\]"):
    run("coordinate", grids, None)


def test_quasi_random_points_lie_between_limits_and_are_equally_many():
  grids = {
    "x": {"lr": (1e-4, 1e-1), "decay": (0.0, 0.2), "kind": ("u", "v")},
    "y": {"lr": (1e-4, 1e-1)},
  }
  score = lambda _, values: abs(math.log10(values[0] / 1e-2))  # noqa: E731
  found, scores, sizes = run("quasi_random", grids, score, trials=16)
  assert sizes == [32]
  assert len(scores["x"]) == len(scores["y"]) == 16
  rates = [values[0] for values in scores["x"]]
  # As many in each third of the logarithm, give or take two.
  thirds = [
    sum(1e-4 * 10**i <= r < 1e-3 * 10**i for r in rates) for i in range(3)
  ]
  assert min(thirds) >= 4
  assert all(0 <= values[1] <= 0.2 for values in scores["x"])
  assert {values[2] for values in scores["x"]} == {"u", "v"}
  # The axis that both have has the same points; another seed has others.
  assert rates == [values[0] for values in scores["y"]]
  again = run("quasi_random", grids, score, trials=16)[1]
  assert again == scores
  assert run("quasi_random", grids, score, trials=16, seed=8)[1] != scores
  assert not found["x"].on_edge


def test_quasi_random_needs_limits_and_room():
  with pytest.raises(errors.UserError, match=r"limits \(low, high\), got"):
    run("quasi_random", {"x": {"lr": RATES}}, None, trials=4)
  with pytest.raises(errors.UserError, match=r"'x' has only 3 different point"):
    run("quasi_random", {"x": {"width": (1, 3)}}, None, trials=4)
