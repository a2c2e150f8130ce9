"""Each planted fault is caught by its test, in a copy of the checkout."""

import os
import re
import subprocess
import sys

import pytest

from tests import support
from tests.faults.faults import FAULTS

PASSED, FAILED = 0, 1  # Of pytest; all else is an error of another kind.


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
  """A copy of what git would have, for this worker alone."""
  root = tmp_path_factory.mktemp("checkout")
  support.copy_checkout(root)
  return root


def _pytest(root, *arguments):
  """Pytest in the copy; bytecode of what is changed within a second stales."""
  environment = os.environ | {
    "PYTHONPATH": str(root),
    "PYTHONDONTWRITEBYTECODE": "1",
    "CI": "true",  # Programs of faults are not kept.
  }
  return subprocess.run(
    [
      sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "0",
      "-m", "slow or not slow", *arguments,
    ],
    cwd=root,
    env=environment,
    capture_output=True,
    text=True,
  )  # fmt: skip


def test_every_kind_is_another():
  names = [fault.name for fault in FAULTS]
  assert len(set(names)) == len(names) >= 20


def test_every_text_is_there_once():
  """A fault whose place is gone says nothing; it is mended or taken out."""
  counts = {
    f.name: (support.ROOT / f.path).read_text().count(f.old) for f in FAULTS
  }
  assert {name: n for name, n in counts.items() if n != 1} == {}


@pytest.mark.slow
def test_without_faults_the_tests_pass(checkout):
  tests = sorted({fault.test for fault in FAULTS})
  done = _pytest(checkout, *tests)
  assert done.returncode == PASSED, done.stdout[-3000:]
  # A test without the name of a case stands for all of them.
  passed = re.search(r"(\d+) passed", done.stdout)
  assert passed is not None
  assert int(passed[1]) >= len(tests)
  assert "skipped" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("case", FAULTS, ids=str)
def test_fault_is_caught(case, checkout):
  path = checkout / case.path
  text = path.read_text()
  assert text.count(case.old) == 1
  path.write_text(text.replace(case.old, case.new))
  try:
    done = _pytest(checkout, case.test)
  finally:
    path.write_text(text)
  assert done.returncode == FAILED, done.stdout[-3000:]
  assert "1 failed" in done.stdout
