"""A published table that is planned: its sweeps, and which of its cells."""

import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import rich.console

from normjax import errors, escape, papers
from normjax.papers import targets
from normjax.record import directory, target
from normjax.report import load
from normjax.reproduce import expected, pieces, source
from normjax.sweep import api, select

VALUES = "values.json"  # Of the part that is computed.


class Planned:
  """A table whose sweeps are planned; nothing is written.

  Attributes:
    source: the file that it is from.
    scale: one of the file's.
    table: at that scale.
    targets: what the paper printed.
    out: the folder of the table.
    overrides: of the parts' configs.
    another: those of them that make it another question than the table's.
    sweeps: by part, those that were chosen; none of the part that is computed.
    said: what `expected.json` is to hold.
    console: to print on.
  """

  def __init__(
    self,
    name: str,
    *,
    scale: str | None = None,
    rows: str | None = None,
    seeds: Iterable[int] | None = None,
    out: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    console: rich.console.Console | None = None,
    **options: Any,
  ):
    """Plans; see `normjax.reproduce.run`."""
    self.console = console or rich.console.Console()
    self.source = source.find(name)
    self.scale = self.source.scale(scale)
    self.table = self.source.table(self.scale)
    self.targets = targets.check(self.table)
    self.out = Path(out or default_out(self.source.name, self.scale))
    self.overrides = dict(overrides or {})
    self.another = {
      key: value
      for key, value in self.overrides.items()
      if not _is_place(key, value)
    }
    self._name = name
    self._chosen = _chosen(self.table, rows)
    self._seeds = None if seeds is None else self._by_part(list(seeds))
    self.sweeps: dict[str, api.Prepared] = {}
    for part in self.table.parts:
      wanted = self.wants(part)
      # What lies there of other parts comes into the table too: a folder with
      # another sweep than the table's, as of other overrides, is refused.
      if part == papers.MEASURE or not (wanted or self._is_begun(part)):
        continue
      prepared = api.Prepared(
        self.source.config(self.scale, part),
        self.out / part,
        overrides=self.overrides,
        console=self.console,
        methods=lambda labels, part=part, rows=rows if wanted else None: (
          self._methods(part, labels, rows)
        ),
        seeds=self._seeds[part] if wanted and self._seeds else None,
        other_metrics=[c.metric for c in self._cells(part) if c.metric],
        **options,
      )
      if wanted:
        self.sweeps[part] = prepared
      elif problem := directory.SweepDirectory(self.out / part).read_plan()[1]:
        raise errors.RunError(
          f"{problem}. Without --rows the same command makes it anew."
        )
    if self.overrides and not self.sweeps:
      raise errors.UserError(
        f"override of {next(iter(self.overrides))!r} has no effect:"
        f" {self.source.path} trains nothing at this scale."
      )
    self.said = expected.said(self.source.name, self.scale, self.table)
    self.check_expected()

  def check_expected(self) -> None:
    """Refuses a folder whose runs were made under other statements.

    Raises:
      RunError: see `expected.check`.
    """
    expected.check(self.out, self.said, self._has_runs())

  def _cells(self, part: str) -> list[papers.Cell]:
    return [cell for cell in self.table.cells if cell.part == part]

  def wants(self, part: str) -> bool:
    """Whether some cell of a part was chosen, and some seed of its sweep."""
    if self._seeds is not None and self._seeds.get(part) == []:
      return False
    return any(cell.ref in self._chosen for cell in self._cells(part))

  def _by_part(self, seeds: list[int]) -> dict[str, list[int]]:
    """The chosen seeds of each part with chosen cells that trains.

    Raises:
      UserError: a seed that none of them has, or none.
    """
    parts = dict.fromkeys(
      cell.part for cell in self.table.cells if cell.ref in self._chosen
    )
    own = {
      part: self.source.sweep(self.scale, part)[1].seeds
      for part in parts
      if part != papers.MEASURE
    }
    if not own:
      raise errors.UserError(
        f"--seeds has no effect: what was chosen of {self.source.path} is"
        " computed, and not trained."
      )
    if not seeds:
      raise errors.UserError("--seeds: names no seed.")
    known = sorted(set().union(*own.values()))
    for seed in seeds:
      if seed not in known:
        raise errors.UserError(
          f"--seeds: what was chosen has no seed {seed}; its seeds:"
          f" {', '.join(map(str, known))}."
        )
    return {part: [s for s in seeds if s in has] for part, has in own.items()}

  @property
  def command(self) -> str:
    """What makes the whole table, as a shell takes it."""
    given = [f"--config.{key}={x}" for key, x in self.overrides.items()]
    scale = f"--scale={self.scale}"
    return shlex.join(["normjax", "reproduce", self._name, scale, *given])

  def _methods(
    self, part: str, labels: Sequence[str], rows: str | None
  ) -> Collection[str]:
    """The methods of a part that measure what was chosen.

    Raises:
      UserError: a cell is of a method that the part's sweep does not have.
    """
    cells = self._cells(part)
    for cell in cells:
      if cell.label not in labels:
        raise errors.UserError(
          f"{self.source.path}: cell {papers.shown(cell.ref)!r} is of method"
          f" {cell.label!r}, which the sweep of part {part!r} does not have."
          f" Methods: {errors.few(list(labels), 12)}."
        )
    if rows is None:
      return labels
    return {cell.label for cell in cells if cell.ref in self._chosen}

  def _has_runs(self) -> bool:
    """Whether something was measured in the folder."""
    computed = (f"{papers.MEASURE}/{name}" for name in (VALUES, pieces.FILE))
    found = (f"*/{directory.RUNS}/*", *computed)
    return any(True for pattern in found for _ in self.out.glob(pattern))

  def check(self, part: str, *, strict: bool = False) -> None:
    """Checks what a part has left to run, and prints what will not go well.

    Args:
      part: one of `sweeps`.
      strict: see `sweep.preflight.check`.

    Raises:
      UserError: bad input; data that is missing is a DataError.
    """
    try:
      self.sweeps[part].check(strict=strict)
    except errors.UserError as error:
      cells = [
        papers.shown(cell.ref)
        for cell in self._cells(part)
        if cell.metric and _blames(error, cell.metric)
      ]
      if not cells:
        raise
      said = str(error).replace("Sweep.other_metrics", "Cell.metric")
      raise type(error)(f"cell {errors.few(cells)}: {said}") from error

  def say(self, text: str) -> None:
    """Prints a line."""
    self.console.print(escape.terminal(text), soft_wrap=True)

  @property
  def has_parts(self) -> bool:
    """Whether there are several, which are then told apart."""
    return len(self.table.parts) > 1

  def records(self) -> dict[str, load.SweepRecord]:
    """What each part's sweep has left, where it was begun."""
    return {
      part: load.load(self.out / part)
      for part in self.table.parts
      if part != papers.MEASURE and self._is_begun(part)
    }

  def _is_begun(self, part: str) -> bool:
    """Whether the folder has a plan of a part."""
    return (self.out / part / directory.PLAN).is_file()


def _blames(error: errors.UserError, metric: str) -> bool:
  """Whether an error is about a metric that was asked beside the sweep's."""
  named = {metric, target.measured(metric)}
  return any(f"Sweep.other_metrics {each!r}" in str(error) for each in named)


def _is_place(key: str, value: Any) -> bool:
  """Whether an override says where files lie, and nothing of what they are.

  A tokenizer's file has the table's `vocab_size` still.
  """
  return key == "data.data_dir" or (
    key == "data.tokenizer" and str(value).endswith(".json")
  )


def default_out(name: str, scale: str) -> Path:
  """The folder of a table that is not told another."""
  return Path("runs") / f"{name}_{scale}"


def overridden(overrides: Mapping[str, Any]) -> str:
  """What a table with overrides says at its head."""
  values = ", ".join(f"{key}={value}" for key, value in overrides.items())
  return f"overridden: {values}; this does not reproduce the table"


def _chosen(table: papers.Table, rows: str | None) -> set[papers.Ref]:
  """The cells that --rows chooses: by row, by column, or by both.

  Raises:
    UserError: it matches none.
  """
  names = {
    cell.ref: {cell.row, cell.column, papers.shown(cell.ref)} - {""}
    for cell in table.cells
  }
  if rows is None:
    return set(names)
  own_rows = dict.fromkeys(cell.row for cell in table.cells)
  columns = dict.fromkeys(cell.column for cell in table.cells if cell.column)
  listed = f"Rows: {', '.join(own_rows)}"
  if columns:
    listed += f"; columns: {', '.join(columns)}"
  every = sorted(set().union(*names.values()))
  found = set(select.matching(every, rows, "--rows", "row", listed))
  return {ref for ref, own in names.items() if own & found}
