"""Parts that tests add to a copy of the checkout, as a contributor would."""

import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from tests import support


class Toy(NamedTuple):
  """What a part adds.

  Attributes:
    files: new ones, by path, its tests included.
    lines: (file, line, the table that the line ends).
  """

  files: Mapping[str, str]
  lines: tuple[tuple[str, str, str], ...]

  @property
  def touched(self) -> set[str]:
    """The files that are new or changed."""
    return {*self.files, *(path for path, _, _ in self.lines)}


class Copy(NamedTuple):
  """A copy of the checkout."""

  root: Path

  def add(self, toys: Iterable[Toy]) -> None:
    """Writes the files and the lines."""
    for toy in toys:
      for path, text in toy.files.items():
        assert not (self.root / path).exists(), path
        (self.root / path).write_text(text)
      for line in toy.lines:
        self._add_line(*line)

  def _add_line(self, path: str, line: str, table: str) -> None:
    file = self.root / path
    before, table, after = file.read_text().partition(f"\n{table}")
    rows, brace, rest = after.partition("\n}")
    assert brace, f"{path} has no table"
    file.write_text(f"{before}{table}{rows}\n  {line}{brace}{rest}")

  def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Python in the copy."""
    return subprocess.run(
      [sys.executable, *arguments],
      cwd=self.root,
      env=support.environment() | {"PYTHONPATH": str(self.root)},
      capture_output=True,
      text=True,
      timeout=600,
    )

  def run_tests(self, chosen: str, *folders: str) -> list[ElementTree.Element]:
    """Runs the tests of a copy that are chosen by `-k`; all must pass.

    Also those that `make test` leaves to `make test-all`.
    """
    done = self.python(
      "-m", "pytest", "-n", "0", "-p", "no:cacheprovider",
      "-m", "slow or not slow",
      "--junitxml=tests.xml", "-k", chosen, *folders,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    return list(ElementTree.parse(self.root / "tests.xml").iter("testcase"))


def copy(root: Path, toys: Iterable[Toy]) -> Copy:
  """The checkout with toys added, in a new folder."""
  support.copy_checkout(root)
  made = Copy(root)
  made.add(toys)
  return made
