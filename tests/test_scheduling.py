"""Groups of tests: a file, or one method of a contract."""

import os
import subprocess
import sys

import pytest

from tests import scheduling, support

_CONTRACT = "tests/norms/test_contract.py::TestNorm"


@pytest.mark.parametrize(
  ("nodeid", "group"),
  [
    ("tests/test_memory.py::test_adam_by_hand", "tests/test_memory.py"),
    ("tests/test_memory.py::test_bad[a::b-[c]]", "tests/test_memory.py"),
    (f"{_CONTRACT}::test_mask[dyt]", f"{_CONTRACT}::test_mask"),
    (f"{_CONTRACT}::test_mask[eps=[1]-cn]", f"{_CONTRACT}::test_mask"),
  ],
)
def test_groups(nodeid, group):
  assert scheduling.group(nodeid) == group


_TESTS = """
import os, pathlib, pytest

@pytest.mark.parametrize("n", range(6))
def test_notes_its_worker(n):
  pathlib.Path(f"{__file__}-{os.getpid()}").touch()
"""


def test_a_worker_takes_whole_files(tmp_path):
  """That xdist asks our scheduler, and that its names are as we read them."""
  hook = "from tests.conftest import pytest_xdist_make_scheduler"
  (tmp_path / "conftest.py").write_text(hook)
  for name in ("test_a.py", "test_b.py"):
    (tmp_path / name).write_text(_TESTS)
  subprocess.run(
    [sys.executable, "-m", "pytest", "-p", "xdist", "-n2", "--dist=loadfile"],
    cwd=tmp_path,
    env=os.environ
    | {"PYTHONPATH": str(support.ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    check=True,
    capture_output=True,
  )
  notes = [path.name.split("-") for path in tmp_path.glob("test_?.py-*")]
  assert sorted(name for name, _ in notes) == ["test_a.py", "test_b.py"]
