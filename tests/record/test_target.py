"""Steps and seconds to a target, and the runs that never reach it."""

import pytest

from normjax import errors
from normjax.record import target

ROWS = [
  {"kind": "train", "step": 0, "time_s": 0.0, "loss": 0.5},
  {"kind": "eval", "step": 0, "time_s": 0.0, "loss": 5.0, "accuracy": 0.1},
  {"kind": "eval", "step": 50, "time_s": 1.5, "loss": None, "accuracy": 0.4},
  {"kind": "eval", "step": 100, "time_s": 3.5, "loss": 2.0, "accuracy": 0.4},
  {"kind": "eval", "step": 150, "time_s": 5.5, "loss": 2.5, "accuracy": 0.9},
]


@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("steps_to(eval/loss<=2.0)", 100),
    ("steps_to(eval/loss <= 1e1)", 0),
    ("seconds_to(eval/loss<=2)", 3.5),
    ("steps_to(eval/accuracy>=0.4)", 50),
    ("steps_to(eval/loss<=1.9)", None),
    ("steps_to(eval/not_there<=1)", None),
  ],
)
def test_the_first_evaluation_that_is_so(name, value):
  result = {"state": "done", "metrics": {"eval/loss": 2.5}}
  told = target.add(result, ["eval/loss", name], lambda: ROWS)
  assert told["metrics"] == {"eval/loss": 2.5, name: value}
  assert name not in result["metrics"]


def test_rows_are_read_only_where_a_target_asks():
  assert target.add({"metrics": {}}, ["eval/loss"], None) == {"metrics": {}}


@pytest.mark.parametrize(
  "name",
  [
    "steps_to(eval/loss)", "steps_to(eval/loss<2)", "steps_to(train/loss<=2)",
    "steps_to(eval/loss<=two)", "steps_to(eval/loss<=nan)",
    "time_to(eval/loss<=2)",
  ],
)  # fmt: skip
def test_what_begins_as_a_target_must_be_one(name):
  with pytest.raises(errors.UserError, match="is not steps_to"):
    target.parse(name)


@pytest.mark.parametrize(
  ("values", "said"),
  [
    ([3, None, 1, 2, None], "3 of 5, median 3"),
    ([3, None, None, 1, None], "2 of 5"),
    ([1, None], "1 of 2"),
    ([], "0 of 0"),
  ],
)
def test_a_run_that_never_reaches_it_counts_as_longer(values, said):
  assert str(target.reached(values)) == said
