"""Metrics that are made of a probe's rows."""

import pytest

from normjax import errors
from normjax.record import probed, target

ROWS = [
  {"kind": "train", "step": 0, "loss": 2.0},
  {"kind": "probe", "step": 0, "weight_norm/a": 2.0, "weight_norm/b": 0.0},
  {"kind": "probe", "step": 10, "weight_norm/a": 3.0, "weight_norm/b": 1.0},
  {"kind": "eval", "step": 20, "weight_norm/a": 9.0},
]


@pytest.mark.parametrize(
  ("name", "values"),
  [
    ("last(weight_norm/a)", [3.0]),
    ("growth(weight_norm/a)", [1.5]),
    ("growth(weight_norm/b)", []),  # From 0 there is no ratio.
    ("growth(weight_norm/d)", []),  # Nor one that a float has.
    ("last(weight_norm/c)", []),
  ],
)
def test_values_of_the_probes_rows(name, values):
  """What is not there is no null: that would count as diverged."""
  rows = [
    *ROWS,
    {"kind": "probe", "step": 0, "weight_norm/d": 1e-300},
    {"kind": "probe", "step": 10, "weight_norm/d": 1e300},
  ]
  told = target.add({"metrics": {}}, ["eval/loss", name], lambda: rows)
  assert told["metrics"] == dict.fromkeys([name] * len(values), *values)


@pytest.mark.parametrize("what", ["last", "growth"])
def test_a_number_that_was_not_finite_has_diverged(what):
  rows = [*ROWS, {"kind": "probe", "step": 20, "weight_norm/a": None}]
  name = f"{what}(weight_norm/a)"
  told = target.add({"metrics": {}}, [name], lambda: rows)
  assert told["metrics"] == {name: None}


def test_beside_targets():
  names = ["steps_to(eval/weight_norm/a>=9)", "last(weight_norm/a)"]
  told = target.add({"metrics": {}}, names, lambda: ROWS)
  assert told["metrics"] == dict(zip(names, (20, 3.0), strict=True))
  assert target.measured("last(weight_norm/a)") == "probe/weight_norm/a"


@pytest.mark.parametrize(
  "name", ["last()", "growth(a b)", "last (weight_norm/a)", "last(x"]
)
def test_what_begins_as_one_must_be_one(name):
  with pytest.raises(errors.UserError, match="is not last"):
    probed.parse(name)
