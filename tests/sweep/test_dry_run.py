"""How a dry run shows its points."""

import io
import types

import pytest
import rich.console

from normjax.sweep import dry_run
from normjax.sweep.plan import Point


def test_a_point_is_one_line_of_a_narrow_terminal():
  tuned = {"optimizer.learning_rate": 0.001}
  point = Point(
    "3799f8121c5d", "tune", "own:mean_power", tuned, 1000, "be7671", tuned
  )
  state = types.SimpleNamespace(
    plan=types.SimpleNamespace(sweep_id="s"),
    chosen=lambda: [point],
    entries={point.run_id: types.SimpleNamespace(state="pending")},
  )
  file = io.StringIO()
  rich.console.Console(file=file, width=80).print(dry_run._points(state))
  line = file.getvalue().splitlines()[-1]
  assert line.split() == [
    "3799f8121c5d", "tune", "own:mean_power", "learning_rate=0.001", "1000",
    "be7671", "pending",
  ]  # fmt: skip


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({}, "5 seeds and 3 comparisons: the first verdict needs |t| > 3.96"),
    ({"seeds": (0,)}, "1 seed and 3 comparisons: no verdict is possible"),
    ({"divergence": "worst"}, "0.0625, and 0.19 after correction: nothing can"),
    (
      {"seeds": range(10), "config": {"data": {"num_folds": 5}}},
      "5 seeds and 3 comparisons: the first verdict needs |t| > 3.96",
    ),
    (
      {"seeds": range(10), "config": {"data": {"num_folds": 5}}},
      "10 seeds have 5 folds, and seeds of one fold count once",
    ),
    ({"baseline": None}, ""),
    ({"methods": "a"}, ""),
  ],
)
def test_it_says_what_the_seeds_can_decide(changes, said):
  plan = types.SimpleNamespace(
    **{
      "methods": "abcd", "baseline": "a", "seeds": range(5),
      "divergence": "verdict", "ladder": None, "config": {}, **changes,
    }
  )  # fmt: skip
  found = dry_run._attainable(types.SimpleNamespace(plan=plan))
  assert said in found
  assert bool(found) == bool(said)
