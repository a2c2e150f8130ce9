"""The paper's numbers beside the measured ones, at its scale and at others."""

import pytest

from normjax import errors, papers
from normjax.report import paper
from tests.report.paper.conftest import around, computed, stated, trained

CELLS = [
  papers.Cell("ours", paper=("ours", "60M")),
  papers.Cell("theirs", paper=("theirs", "60M")),
  papers.Cell("none", paper=("none", "60M")),
  papers.Cell("memory", paper=("memory", "60M")),
  papers.Cell("top", paper=("Table 12", "ours", "top-1")),
  papers.Cell("new"),
]


@pytest.fixture
def cells(write_targets):
  """Cells by name, of one table at a scale."""
  write_targets()

  def cells(scale="paper", units="", **measured):
    table = stated(
      cells=[c for c in CELLS if c.row in measured], target="Table 1",
      units=units,
    )  # fmt: skip
    found = paper.judge(table, scale, measured)
    return {each.cell.row: each for each in found.cells}

  return cells


def test_a_number_agrees_where_the_interval_holds_it(cells):
  """26.95 ± 0.02, and half of the last digit: 26.925 to 26.975."""
  near = cells(ours=trained(around(26.9, 0.05)))["ours"]
  assert near.verdict == "agrees"
  assert near.difference == pytest.approx(-0.05)
  assert cells(ours=trained(around(26.8, 0.05)))["ours"].verdict == "differs"
  # Without the widening the interval [26.918, 26.922] would not hold it.
  edge = cells(ours=trained(around(26.924, 0.002)))["ours"]
  assert edge.verdict == "agrees"
  assert cells(ours=trained(around(26.91, 0.002)))["ours"].verdict == "differs"


def test_numbers_share_the_error_by_holm(cells):
  weak = trained(around(27.13, 0.1))
  assert cells(theirs=weak)["theirs"].verdict == "differs"
  found = cells(theirs=weak, ours=trained(around(26.95, 1)))
  assert found["theirs"].verdict == "agrees"
  assert found["theirs"].p_holm == pytest.approx(0.0868, abs=1e-3)


def test_at_other_scales_nothing_is_said_of_numbers(cells):
  for scale in ("proxy", "small"):
    found = cells(scale, ours=trained(around(260.8, 0.05)))["ours"]
    assert (found.verdict, found.difference) == ("", None)
    assert found.number.value == 26.95


@pytest.mark.parametrize(
  ("measured", "verdict"),
  [
    (trained([26.95]), "one run"),
    (trained([26.9, 27.0], planned=3), "2 of 3 runs"),
    (trained({0: 27.0}, (1, 2)), "diverged 2 of 3"),
    (paper.Measured({}, frozenset(), 3, 3, censored=True), "not reached"),
    (paper.Measured(), ""),
    (trained([1e308] * 3), ""),
    (computed(26.9512), "agrees"),
    (computed(27), "differs"),
    (trained([26.95] * 3), "agrees"),
    (trained([30.0] * 3), "no spread known"),
  ],
)
def test_what_else_a_cell_may_be(cells, measured, verdict):
  found = cells(ours=measured)["ours"]
  assert found.verdict == verdict


def test_words_and_unverified_numbers_are_not_compared(cells):
  found = cells(
    none=trained({}, (0, 1)), memory=trained([30.5, 30.6]),
    new=trained([1.0, 2.0]),
  )  # fmt: skip
  assert {each.verdict for each in found.values()} == {""}
  assert found["none"].number.text == "diverged"
  assert (found["memory"].number, found["memory"].unverified) == (None, True)
  assert (found["new"].number, found["new"].unverified) == (None, False)


def test_percentages_are_compared_as_what_the_cells_are(cells):
  share = cells(top=trained(around(0.977, 0.001)))["top"]
  assert share.difference == pytest.approx(0.0)
  percent = cells(units="%", top=trained(around(97.7, 0.1)))["top"]
  assert percent.difference == pytest.approx(0.0)
  assert (share.verdict, percent.verdict) == ("agrees", "agrees")


def test_a_number_that_is_not_in_the_targets_is_named(write_targets):
  write_targets()
  table = stated(
    cells=[papers.Cell("a", paper=("our", "60M"))], target="Table 1"
  )
  with pytest.raises(errors.UserError, match="Did you mean 'ours'"):
    paper.judge(table, "proxy", {"a": trained([1.0])})
