"""Values that a table computes, without a run."""

import json

import pytest

from normjax import errors
from normjax.reproduce import pieces, spent
from tests.reproduce.toy_parts import TWO_PARTS, values_of


@pytest.mark.parametrize(
  ("values", "said"),
  [
    ("3.0", "a mapping from a cell to a value per seed is needed"),
    ('{"exact": 3.0}', "measure() gives 3.0 of cell 'exact'"),
    ('{"exact": ["x"]}', "of cell 'exact'; allowed: a list of numbers"),
    ('{"exact": "12"}', "gives '12' of cell 'exact'; allowed: a list of numbe"),
    ('{"exact": {3: 1.0}}', "gives {3: 1.0} of cell 'exact'"),
    ('{"exact": []}', "measure() gives no value of cell 'exact'"),
    ("{1: [3.0]}", "no values of cell 'exact'; it gives: 1"),
    ('{"exat": [3.0]}', "no values of cell 'exact'; it gives: exat"),
    ("1 / 0", "measure('proxy') of configs/papers/toy.py failed: ZeroDiv"),
  ],
)
def test_computed_values_that_are_none_are_named(project, values, said):
  project.write(
    cells='papers.Cell("exact", part="measure")',
    expected="",
    parts='"measure",',
    replacing=('{"exact": [2.0]}', values),
  )
  with pytest.raises(errors.UserError) as caught:
    project.run()
  assert said in str(caught.value)
  assert not (project.folder / "runs" / "toy_proxy" / "measure").exists()


@pytest.mark.parametrize("values", ['"exact": iter([2.0])', '"x": "y", 1: [3]'])
def test_computed_values_are_read_once_and_others_not_at_all(project, values):
  given = '{"exact": [2.0]'
  project.write(**TWO_PARTS, replacing=(given, f"{given}, {values}"))
  outcome = project.run(rows="exact")
  assert [*values_of(outcome)["exact"].values()] == [2.0]


def test_computed_values_may_be_an_arrays(project):
  project.write(**TWO_PARTS, replacing=("[2.0]", "np.float32([2, 2])"))
  outcome = project.run(rows="exact")
  assert [*values_of(outcome)["exact"].values()] == [2.0, 2.0]


# Three pieces, one of them without a value; `stop` interrupts before the last.
_PIECES = """def measure(scale, piece):
  first = piece("first", compute, 2.5)
  odd = piece("odd", compute, float("nan"))
  STOP
  return {"exact": [first, piece("last", compute, (odd, 1.0))[1]]}


def compute(value):
  with open("computed.txt", "a") as file:
    file.write(f"{value}\\n")
  return value
"""


def _in_pieces(project, stop=""):
  given = 'def measure(scale):\n  return {"exact": [2.0]}\n'
  text = _PIECES.replace("STOP", stop)
  project.write(**TWO_PARTS, replacing=(given, text))


def _computed(project):
  return (project.folder / "computed.txt").read_text().split("\n")[:-1]


def test_an_interruption_loses_the_piece_that_it_met_alone(project):
  stop = 'import os\n  if not os.path.exists("go"): raise KeyboardInterrupt'
  _in_pieces(project, stop)
  with pytest.raises(KeyboardInterrupt):
    project.run(rows="exact")
  assert "measured first in 0 s" in project.said()
  (project.folder / "go").touch()
  outcome = project.run(rows="exact")
  assert "measured earlier: first, odd" in project.said()
  assert _computed(project) == ["2.5", "nan", "(nan, 1.0)"]
  assert [*values_of(outcome)["exact"].values()] == [2.5, 1.0]
  # What both calls took is known, and a finished table is measured anew.
  assert outcome.made.cpu_s is not None
  assert spent.read(outcome.out).runs == 1
  assert not (outcome.out / "measure" / pieces.FILE).exists()


def test_pieces_of_other_code_or_of_a_damaged_file_count_no_more(project):
  for stop in ("raise KeyboardInterrupt", "pass; raise KeyboardInterrupt"):
    _in_pieces(project, stop)
    with pytest.raises(KeyboardInterrupt):
      project.run(rows="exact")
  assert "is of other code: all of it is measured anew" in project.said()
  assert _computed(project) == ["2.5", "nan"] * 2
  path = project.folder / "runs" / "toy_proxy" / "measure" / pieces.FILE
  path.write_text("{")
  with pytest.raises(KeyboardInterrupt):
    project.run(rows="exact")
  assert "is not valid JSON" in project.said()
  assert json.loads(path.read_text())["pieces"] == {"first": 2.5, "odd": None}


@pytest.mark.parametrize(
  ("stop", "said"),
  [
    ('piece("odd", compute, 1)', "two pieces 'odd'"),
    ('piece("set", compute, {1})', "piece 'set' of measure(): Object of type"),
  ],
)
def test_pieces_that_cannot_be_kept_are_named(project, stop, said):
  _in_pieces(project, stop)
  with pytest.raises(errors.UserError) as caught:
    project.run(rows="exact")
  assert said in str(caught.value)
