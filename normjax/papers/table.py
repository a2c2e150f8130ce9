"""A published table: its cells, and what is expected of them."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

from normjax import configure, errors
from normjax.papers.statements import Expected, Ref, check_name, shown

SCALES = ("proxy", "small", "paper")
SWEEP = "sweep"  # The part that is the file's own sweep.
MEASURE = "measure"  # The part that is computed by `measure(scale)`.
_PART = re.compile(r"\w[\w.-]*")


@dataclasses.dataclass(frozen=True)
class Cell:
  """One measured number, beside the paper's.

  Attributes:
    row: its row in the printed table.
    column: its column; "" where the table has one.
    method: the sweep's method that measures it; None: that with the row's name.
    metric: of `result.json`, or a target; None: the sweep's own.
    part: the sweep that it is from, of `Table.parts`.
    paper: (method, column) of the target's table, or (table, method, column)
      of another one of the same paper; None: the paper has no such number.
  """

  row: str
  column: str = ""
  method: str | None = None
  metric: str | None = None
  part: str = SWEEP
  paper: tuple[str, ...] | None = None

  def __post_init__(self):
    """Raises UserError for names that are none, or a place that is none."""
    check_name("Cell.row", self.row)
    check_name("Cell.column", self.column, empty=True)
    if self.method is not None:
      check_name("Cell.method", self.method)
    if self.metric is not None:
      check_name("Cell.metric", self.metric)
    if self.paper is not None and (
      not isinstance(self.paper, tuple | list) or len(self.paper) not in (2, 3)
    ):
      raise errors.UserError(
        f"cell {shown(self.ref)!r}: paper={self.paper!r}; allowed: (method,"
        " column) or (table, method, column)."
      )

  @property
  def ref(self) -> Ref:
    """What statements call it: its row, or its row and column."""
    return (self.row, self.column) if self.column else self.row

  @property
  def label(self) -> str:
    """The label of the method that measures it."""
    return self.row if self.method is None else self.method


@dataclasses.dataclass(frozen=True)
class Table:
  """A published table at one scale.

  Attributes:
    title: what it asks, in a few words.
    paper: the folder in `experiments` with `targets.toml`.
    target: the id of its table there; None where the paper has none.
    cells: in the order in which they are printed.
    expected: statements about the cells, made before they are measured.
    hardware: what it needs, as in "two CPU cores".
    differs: in what this scale is not the paper's.
    time: measured on that hardware; "" where it was not.
    notes: what a reader has to know, as where a paper's numbers disagree.
    parts: sweeps that cells are from. The argument of the file's functions is
      the scale for "sweep", and "scale,part" for others; "measure" are the
      values that `measure(scale)` gives, or `measure(scale, piece)`, which is
      interrupted without loss: see `normjax.reproduce.pieces`.
    direction: which side of the numbers is better, "lower" or "higher"; "" of
      cells that do not have the same.
    units: of the numbers; "" where they have none.
  """

  title: str
  paper: str
  target: str | None
  cells: Sequence[Cell]
  expected: Sequence[Expected]
  hardware: str
  differs: str
  time: str = ""
  notes: Sequence[str] = ()
  parts: Sequence[str] = (SWEEP,)
  direction: str = "lower"
  units: str = ""

  def __post_init__(self):
    """Checks that names mean something."""
    if self.direction not in ("lower", "higher", ""):
      raise errors.UserError(
        f"Table.direction={self.direction!r}; allowed: 'lower', 'higher', ''."
      )
    for part in self.parts:
      if not _PART.fullmatch(part) or self.parts.count(part) > 1:
        raise errors.UserError(
          f"Table.parts: {part!r} in {list(self.parts)}; each is a folder:"
          " letters, digits, '_', '-' and '.', and there once."
        )
    refs = [cell.ref for cell in self.cells]
    if not refs:
      raise errors.UserError(f"table {self.title!r} has no cells.")
    names = list(map(shown, refs))  # As files and messages have them.
    for name in names:
      if names.count(name) > 1:
        raise errors.UserError(f"Table.cells: {name!r} is there twice.")
    for cell in self.cells:
      if cell.part not in self.parts:
        raise errors.UserError(
          f"cell {shown(cell.ref)!r} is of part {cell.part!r}; Table.parts:"
          f" {', '.join(self.parts)}."
        )
    for each in self.expected:
      for ref in each.terms:
        if ref not in refs:
          raise errors.UserError(
            f"expected {each.claim!r} is about {shown(ref)!r}, which is no"
            f" cell; cells: {', '.join(map(shown, refs))}."
          )

  def cell(self, ref: Ref) -> Cell:
    """The cell of a reference."""
    return next(cell for cell in self.cells if cell.ref == ref)


def argument(scale: str, part: str) -> str:
  """What `get_config` and `sweep` are called with for a part."""
  return scale if part == SWEEP else f"{scale},{part}"


def told(table: Table) -> list[dict[str, Any]]:
  """The statements, each with what its cells are measured by.

  Returns:
    As JSON has it: `Expected.told()`, and under "cells" the part, the method
    and the metric of each.
  """
  return [
    {
      **each.told(),
      "cells": [
        [cell.part, cell.label, cell.metric]
        for cell in map(table.cell, each.terms)
      ],
    }
    for each in table.expected
  ]


def digest(table: Table) -> str:
  """What other statements, or the same about other cells, have not."""
  return configure.digest(told(table))
