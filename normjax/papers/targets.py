"""What papers printed: `experiments/<paper>/targets.toml`, strictly read.

Every number says where it was read. `paper`: in the paper itself or its
official repository. `secondary`: in somebody else's copy or run. `unverified`:
from memory; it is never given as the paper's. What is wrong with a file is an
error that names file, table, method and column.
"""

import collections
import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from normjax import errors
from normjax.papers import places, toml
from normjax.papers.printed import (
  MARKS,
  Number,
  PrintedTable,
  Targets,
  Trap,
  decimals,
)
from normjax.papers.table import Cell, Table
from normjax.registry import near_misses

INDEPENDENT = "independent"
KINDS = ("result", "headline", "memory", "speed", "count", INDEPENDENT)
DIRECTIONS = ("lower", "higher", "none")
FILE = "targets.toml"

_TOP = ("title", "arxiv", "code", "claim")
_TOP_MORE = ("venue", "other_arxiv", "counts", "tables", "protocol", "traps")
_TABLE = ("id", "kind", "metric", "direction", "rows")
_TABLE_MORE = (
  "source", "units", "model", "dataset", "budget", "batch", "schedule", "seeds",
  "note",
)  # fmt: skip
_ROW = ("method", "column", "mark")
_ROW_MORE = ("value", "text", "pm", "source")
Place = tuple[str, str, str]  # Table, method, column.


def place(table: Table, cell: Cell) -> Place | None:
  """Where the paper's number of a cell stands; None: the paper has none.

  Raises:
    UserError: the cell names no table, and the table has no target.
  """
  if cell.paper is None:
    return None
  if len(cell.paper) == 3:
    return (cell.paper[0], cell.paper[1], cell.paper[2])
  if table.target is None:
    raise errors.UserError(
      f"cell {cell.row!r}: paper={cell.paper!r} names no table, and"
      " Table.target is None; allowed: (table, method, column)."
    )
  return (table.target, cell.paper[0], cell.paper[1])


def check(table: Table) -> Targets:
  """The targets of a table, after a look at every number that it asks for.

  Raises:
    UserError: the file is not right, or lacks a number.
  """
  targets = read(table.paper)
  if table.target is not None and table.target not in targets.tables:
    targets.entry(table.target, "", "")  # It names what there is.
  for cell in table.cells:
    if (where := place(table, cell)) is not None:
      targets.entry(*where)
  return targets


def papers() -> list[str]:
  """The folders of experiments that have a `targets.toml`."""
  found = {
    path.parent.name
    for each in places.folders()
    for path in each.glob(f"*/{FILE}")
  }
  return sorted(found)


def read(paper: str) -> Targets:
  """The targets of a paper.

  Args:
    paper: a folder of `experiments`.

  Raises:
    UserError: there is none, or it is not right.
  """
  path = places.find(paper, FILE) if Path(paper).name == paper else None
  if path is None:
    known = papers()
    raise errors.UserError(
      f"no experiments/{paper}/{FILE}.{near_misses(paper, known)} Papers:"
      f" {errors.few(known, 12) or 'none'}."
    )
  return load(path)


def load(path: Path) -> Targets:
  """Reads a file.

  Raises:
    UserError: it is not right; the message names the number.
  """
  said = toml.load(path)
  where = str(path)
  toml.check_keys(where, said, _TOP, _TOP_MORE)
  tables: dict[str, PrintedTable] = {}
  for index, record in enumerate(toml.records(where, said, "tables"), 1):
    table = _table(where, index, record)
    if table.id in tables:
      raise errors.UserError(f"{where}: table {table.id!r} is there twice.")
    tables[table.id] = table
  _check_counts(where, said, tables)
  return Targets(
    path,
    toml.text(where, said, "title"),
    toml.text(where, said, "arxiv", empty=True),
    toml.text(where, said, "code", empty=True),
    toml.text(where, said, "claim"),
    tables,
    [
      _protocol(f"{where}, protocol {index}", record)
      for index, record in enumerate(toml.records(where, said, "protocol"), 1)
    ],
    [
      _trap(f"{where}, trap {index}", record)
      for index, record in enumerate(toml.records(where, said, "traps"), 1)
    ],
  )


def _table(where: str, index: int, record: Any) -> PrintedTable:
  """A record of `[[tables]]`."""
  is_named = isinstance(record, Mapping) and isinstance(record.get("id"), str)
  where += f", table {record['id']!r}" if is_named else f", table {index}"
  toml.check_keys(where, record, _TABLE, _TABLE_MORE)
  kind = toml.word(where, record, "kind", KINDS)
  units = toml.text(where, record, "units", empty=True)
  numbers: dict[tuple[str, str], Number] = {}
  for number, row in enumerate(toml.records(where, record, "rows"), 1):
    place, found = _row(where, number, row, record)
    if place in numbers:
      raise errors.UserError(
        f"{where}, method {place[0]!r}, column {place[1]!r}: it is there twice."
      )
    numbers[place] = dataclasses.replace(
      found, is_percent=units == "%", independent=kind == INDEPENDENT
    )
  most = collections.Counter[str]()
  for (_, column), each in numbers.items():
    most[column] = max(most[column], decimals(each.value))
  numbers = {
    place: dataclasses.replace(each, decimals=most[place[1]])
    for place, each in numbers.items()
  }
  return PrintedTable(
    toml.text(where, record, "id"),
    kind,
    toml.text(where, record, "metric"),
    toml.word(where, record, "direction", DIRECTIONS),
    {
      key: toml.text(where, record, key, empty=True)
      for key in _TABLE_MORE
      if key in record
    },
    numbers,
  )


def _row(
  where: str, index: int, row: Any, table: toml.Record
) -> tuple[tuple[str, str], Number]:
  """A record of `rows`: its method and column, and the number."""
  where = _row_name(where, index, row)
  toml.check_keys(where, row, _ROW, _ROW_MORE)
  if ("value" in row) == ("text" in row):
    both = "both" if "value" in row else "neither"
    raise errors.UserError(
      f"{where}: {both} of value and text; allowed: one of them."
    )
  if "pm" in row and "value" not in row:
    raise errors.UserError(f"{where}: pm={row['pm']!r} without a value.")
  source = row.get("source", table.get("source"))
  if not isinstance(source, str) or not source.strip():
    raise errors.UserError(
      f"{where}: no source, nor has its table one; allowed: where it was read."
    )
  found = Number(
    toml.number(where, row, "value", -math.inf) if "value" in row else None,
    toml.text(where, row, "text") if "text" in row else "",
    toml.number(where, row, "pm", 0.0) if "pm" in row else None,
    toml.word(where, row, "mark", MARKS),
    source,
  )
  names = toml.text(where, row, "method"), toml.text(where, row, "column")
  return names, found


def _row_name(where: str, index: int, row: Any) -> str:
  """A row as messages name it: by method and column where it has them."""
  if not isinstance(row, Mapping):
    return f"{where}, row {index}"
  names = [
    f", {key} {row[key]!r}" for key in ("method", "column") if key in row
  ]
  return where + ("".join(names) if len(names) == 2 else f", row {index}")


def _protocol(where: str, record: Any) -> Mapping[str, Any]:
  """A record of `[[protocol]]`: free keys beside three that it must have."""
  needed = ("applies", "mark", "source")
  toml.check_keys(where, record, needed, record)
  toml.word(where, record, "mark", MARKS)
  for key in ("applies", "source"):
    toml.text(where, record, key)
  return record


def _trap(where: str, record: Any) -> Trap:
  toml.check_keys(where, record, ("text", "mark", "source"), ())
  return Trap(
    toml.text(where, record, "text"),
    toml.word(where, record, "mark", MARKS),
    toml.text(where, record, "source"),
  )


def _check_counts(
  where: str, said: toml.Record, tables: Mapping[str, PrintedTable]
) -> None:
  """Checks `counts`, where the file has it: a copy may have lost a row."""
  if "counts" not in said:
    return
  toml.check_keys(f"{where}, counts", said["counts"], (), MARKS)
  marks = collections.Counter(
    number.mark
    for table in tables.values()
    for number in table.numbers.values()
  )
  for mark in MARKS:
    if said["counts"].get(mark, 0) != marks[mark]:
      raise errors.UserError(
        f"{where}: counts.{mark}={said['counts'].get(mark, 0)!r}, but"
        f" {marks[mark]} numbers have that mark. Of a part of a paper's tables,"
        " leave counts out."
      )
