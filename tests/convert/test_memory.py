"""What an import of 135M parameters needs beside the parameters themselves."""

import json
import subprocess
import sys

import pytest

from tests import support
from tests.convert import measure_import


@pytest.mark.slow
def test_an_import_holds_no_second_copy_of_the_weights(tmp_path):
  folder = tmp_path / "weights"
  assert measure_import.make(folder) > 135e6
  said = subprocess.run(
    [sys.executable, "-m", "tests.convert.measure_import", str(folder)],
    cwd=support.ROOT,
    env=support.environment(),
    capture_output=True,
    text=True,
    check=True,
  )
  measured = json.loads(said.stdout)
  # The largest tensor twice is 1.28 times all of them.
  assert measured["peak_bytes"] < 1.3 * measured["file_bytes"], measured
