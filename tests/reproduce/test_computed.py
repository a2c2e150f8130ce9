"""Values that a table computes, without a run."""

import pytest

from normjax import errors
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
