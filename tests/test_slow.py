"""The list of tests that `make test` leaves out names tests that are there."""

import re

import pytest

from tests import slow, support


@pytest.mark.parametrize("pattern", slow.LEFT_OUT)
def test_a_pattern_is_of_a_test(pattern):
  file, _, rest = pattern.partition("::")
  source = (support.ROOT / "tests" / file).read_text()
  # Methods of a contract are in another file.
  contracts = (support.ROOT / "tests" / "contracts").glob("*.py")
  source += "".join(path.read_text() for path in contracts)
  for name in re.findall(r"test_[a-z_]+[a-z]", rest):
    assert name in source
