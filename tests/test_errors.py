"""How messages list names."""

import pytest

from normjax import errors


@pytest.mark.parametrize(
  ("most", "separator", "said"),
  [
    (3, ", ", "a, b, c"),
    (2, ", ", "a, b and 1 more"),
    (1, "; ", "a; and 2 more"),
  ],
)
def test_a_few_are_named_and_the_rest_is_counted(most, separator, said):
  assert errors.few(["a", "b", "c"], most, separator) == said


def test_what_is_counted_has_a_unit():
  assert errors.and_more(0, "fault") == ""
  assert errors.and_more(1, "fault") == "and 1 more fault"
  assert errors.and_more(1200, "fault") == "and 1,200 more faults"
