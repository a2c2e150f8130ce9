"""A paper's numbers as objects: what they are asked, what they do not give."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from normjax import errors
from normjax.registry import near_misses

PAPER, SECONDARY, UNVERIFIED = MARKS = ("paper", "secondary", "unverified")

# A table's short name, where its id has one: "Table 1" of "Table 1 374M".
_SHORT = re.compile(r"(?:Table|Figure) \w+")


def decimals(value: float | None) -> int:
  """Digits behind the point, without trailing zeros but the first."""
  found = re.fullmatch(r"-?\d+\.(\d+)", repr(value))
  return len(found[1]) if found else 0


@dataclasses.dataclass(frozen=True)
class Number:
  """A number as it is printed.

  Attributes:
    value: None where a word stands in its place.
    text: the word, as in "diverged"; else "".
    pm: the printed plus-minus; None where there is none.
    mark: "paper", "secondary" or "unverified".
    source: where it was read.
    is_percent: whether it is a percentage.
    independent: whether it is of a run by others than the authors.
    decimals: the most of its column: a printed 22.10 is read as 22.1.
  """

  value: float | None
  text: str
  pm: float | None
  mark: str
  source: str
  is_percent: bool = False
  independent: bool = False
  decimals: int = 0

  @property
  def second_hand(self) -> bool:
    """Whether it is somebody else's copy, or somebody else's run."""
    return self.mark == SECONDARY or self.independent

  @property
  def rounding(self) -> float:
    """Half of the last digit that is printed; of a count there is none.

    A whole number is a count, unless it is a percentage: 82% is 81.5 to 82.5.
    """
    if self.value is None:
      return 0.0
    if isinstance(self.value, int):
      return 0.5 if self.is_percent else 0.0
    return 0.5 * 10.0 ** -max(decimals(self.value), self.decimals)

  def __str__(self) -> str:
    """As the paper has it, as in "26.95 ± 0.02"."""
    if self.value is None:
      return self.text
    pm = "" if self.pm is None else f" ± {self.pm:g}"
    return f"{self.value}{pm}" + ("%" if self.is_percent else "")


@dataclasses.dataclass(frozen=True)
class PrintedTable:
  """A table of a paper.

  Attributes:
    id: its name, as in "Table 1".
    facts: what else the file says of it, as "dataset" or "note".
    numbers: by method and column, unverified ones too.
  """

  id: str
  kind: str
  metric: str
  direction: str
  facts: Mapping[str, str]
  numbers: Mapping[tuple[str, str], Number]


@dataclasses.dataclass(frozen=True)
class Trap:
  """What goes wrong where a table is copied or run again."""

  text: str
  mark: str
  source: str


@dataclasses.dataclass(frozen=True)
class Targets:
  """A paper's numbers, protocol and traps.

  Attributes:
    path: the file.
    arxiv: identifier; "" where there is none.
    code: owner/name of the official repository, or why there is none.
    tables: by id.
    protocol: hyper-parameters; each says what it applies to, its mark and its
      source.
  """

  path: Path
  title: str
  arxiv: str
  code: str
  claim: str
  tables: Mapping[str, PrintedTable]
  protocol: Sequence[Mapping[str, Any]] = ()
  traps: Sequence[Trap] = ()

  def entry(self, table_id: str, method: str, column: str) -> Number:
    """A number of the file, also one that is unverified.

    Raises:
      UserError: the file does not have it.
    """
    table = self.tables.get(table_id)
    if table is None:
      raise errors.UserError(
        f"{self.path} has no table {table_id!r}."
        f"{near_misses(table_id, self.tables)} Tables:"
        f" {errors.few(list(map(repr, self.tables))) or 'none'}."
      )
    if (method, column) in table.numbers:
      return table.numbers[method, column]
    methods = list(dict.fromkeys(m for m, _ in table.numbers))
    where = f"{self.path}, table {table_id!r}"
    if method not in methods:
      raise errors.UserError(
        f"{where}: no method {method!r}.{near_misses(method, methods)} Methods:"
        f" {errors.few(list(map(repr, methods)), 12) or 'none'}."
      )
    columns = [c for m, c in table.numbers if m == method]
    raise errors.UserError(
      f"{where}, method {method!r}: no column {column!r}."
      f"{near_misses(column, columns)} Columns:"
      f" {errors.few(list(map(repr, columns)), 12)}."
    )

  def number(self, table_id: str, method: str, column: str) -> Number | None:
    """A number that may be given as the paper's; None: it is unverified.

    Raises:
      UserError: the file does not have it.
    """
    found = self.entry(table_id, method, column)
    return None if found.mark == UNVERIFIED else found

  def traps_of(self, table_id: str | None) -> list[Trap]:
    """Traps that concern a table: all but those that name other tables only.

    Args:
      table_id: None: those that name no table.
    """
    short = {key: _short(key) for key in self.tables}
    own = None if table_id is None else short.get(table_id, table_id)
    kept = []
    for trap in self.traps:
      named = {s for s in short.values() if _says(trap.text, s)}
      if trap.mark != UNVERIFIED and (not named or own in named):
        kept.append(trap)
    return kept


def _short(table_id: str) -> str:
  """A table's short name, as texts have it."""
  found = _SHORT.match(table_id)
  return found[0] if found else table_id


def _says(text: str, name: str) -> bool:
  """Whether a text has a name as words of its own."""
  return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None
