"""What was measured: speeds, and the lab log's tables."""

import dataclasses
import functools
import re
import tomllib
from collections.abc import Sequence
from typing import Any

from docs import generator

_EXPERIMENTS = generator.ROOT / "experiments"


@functools.cache
def speeds() -> dict[str, dict[str, Any]]:
  """The benchmarks of experiments/speed by name, as their files have them."""
  files = sorted((_EXPERIMENTS / "speed").glob("*.toml"))
  return {file.stem: tomllib.loads(file.read_text()) for file in files}


@dataclasses.dataclass(frozen=True)
class Measured:
  """A table of the lab log.

  Attributes:
    entry: the heading that it stands under: date and question.
    sweep: the config file whose command stands before it.
    header: of its columns.
    rows: as text.
  """

  entry: str
  sweep: str
  header: tuple[str, ...]
  rows: tuple[tuple[str, ...], ...]


def anchor(heading: str) -> str:
  """The fragment that a repository's web page gives a heading."""
  words = re.sub(r"[^\w\- ]", "", heading.strip().lower())
  return words.replace(" ", "-")


def _cells(line: str) -> tuple[str, ...]:
  return tuple(c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1])


@functools.cache
def log() -> tuple[Measured, ...]:
  """Every table of the lab log."""
  entry, sweep, found = "", "", []
  lines: list[str] = []
  text = (_EXPERIMENTS / "LOG.md").read_text()
  for line in [*text.splitlines(), ""]:
    if line.startswith("## "):
      entry, sweep = line[3:], ""
    if named := re.search(r"configs/(?:sweeps|papers)/\w+\.py(?::\w+)?", line):
      sweep = named[0]
    if line.startswith("|"):
      lines.append(line)
    elif lines:
      header, _, *rows = map(_cells, lines)
      found.append(Measured(entry, sweep, header, tuple(rows)))
      lines = []
  return tuple(found)


def rows_of(name: str) -> list[tuple[Measured, list[Sequence[str]]]]:
  """The log's tables with rows whose first cell says `name`, and those."""
  word = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")
  found = []
  for measured in log():
    rows = [row for row in measured.rows if word.search(row[0])]
    if rows:
      found.append((measured, rows))
  return found
