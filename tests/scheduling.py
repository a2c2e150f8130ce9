"""Which tests stay together on one worker of pytest-xdist.

Not xdist's own groups: they rename a test by an attribute that pytest 9.2 does
not read, so that every test is a group of its own and each worker makes the
fixtures of every file.
"""

from xdist.scheduler import LoadScopeScheduling


class ByFile(LoadScopeScheduling):
  """The largest groups first; a worker that is free takes the next."""

  def _split_scope(self, nodeid: str) -> str:
    return group(nodeid)


def group(nodeid: str) -> str:
  """The group of a test.

  Args:
    nodeid: as "tests/norms/test_contract.py::TestNorm::test_mask[dyt]".

  Returns:
    The file's path. Of a contract, whose files take minutes, the method with
    all its cases: "tests/norms/test_contract.py::TestNorm::test_mask".
  """
  path, _, _ = nodeid.partition("::")
  if path.endswith("test_contract.py"):
    return nodeid.partition("[")[0]
  return path
