"""Statements and tables that say nothing, or not what they seem to.

They are refused: else they would be measured first, and what was saved could
not be read again.
"""

import pytest

from normjax import errors, papers


@pytest.mark.parametrize(
  "make",
  [
    lambda: papers.above("a", "a"),
    lambda: papers.below("a", "a", by=1),
    lambda: papers.within(("a", "b"), ("a", "b"), 1),
    lambda: papers.ratio_below("a", "a", 0.5),
    lambda: papers.ratio_above("a", "a", 0.5),
  ],
)
def test_a_cell_is_not_compared_with_itself(make):
  """One weight would replace the other: a - a > 0 would become -a > 0."""
  with pytest.raises(errors.UserError, match="compares 'a.*' with itself"):
    make()


@pytest.mark.parametrize(
  ("make", "said"),
  [
    (lambda: papers.Expected(" ", {"a": 1}, 0), "Expected.claim=' '"),
    (
      lambda: papers.Expected("x", {"a": 1}, 0, of="divergance"),
      "of='divergance'; allowed: 'value', 'divergence'",
    ),
    (lambda: papers.Cell(""), "Cell.row=''; allowed: a text that is not empty"),
    (lambda: papers.Cell(32), "Cell.row=32"),
    (lambda: papers.Cell("\ud800"), r"Cell.row='\ud800'"),
    (lambda: papers.Cell("a", 32), "Cell.column=32; allowed: a text."),
    (lambda: papers.Cell("a", method=""), "Cell.method=''"),
    (lambda: papers.Cell("a", metric=3), "Cell.metric=3"),
    (lambda: papers.Cell("a", paper="ab"), "paper='ab'; allowed: (method"),
    (
      lambda: papers.Table(
        "t", "p", None, [papers.Cell("a, b"), papers.Cell("a", "b")], [], "", ""
      ),
      "Table.cells: 'a, b' is there twice",
    ),
  ],
)
def test_names_that_files_could_not_have_are_refused(make, said):
  with pytest.raises(errors.UserError) as caught:
    make()
  assert said in str(caught.value)
