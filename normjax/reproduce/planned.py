"""A published table that is planned: checked, shown, or run part by part."""

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich.console

from normjax import errors, escape, papers, report
from normjax.papers import targets
from normjax.record import directory, files, target
from normjax.report import load
from normjax.reproduce import expected, source, spent
from normjax.sweep import api, select
from normjax.sweep.summary import Summary

if TYPE_CHECKING:
  from normjax.report import paper

VALUES = "values.json"  # Of the part that is computed.


@dataclasses.dataclass(frozen=True)
class Outcome:
  """A table as it was measured, as far as it was.

  Attributes:
    judged: its cells, and the verdicts on what was expected.
    out: the folder with the table's files, and with a folder per part.
    summaries: how the sweep of each part ended.
    exit_code: 0: all that was chosen is over; 1: some runs failed; 130:
      interrupted.
  """

  judged: "paper.Judged"
  out: Path
  summaries: Mapping[str, Summary]
  exit_code: int


class Planned:
  """A table whose sweeps are planned; nothing is written.

  Attributes:
    source: the file that it is from.
    scale: one of the file's.
    table: at that scale.
    targets: what the paper printed.
    out: the folder of the table.
    overrides: of the parts' configs, which are then others than the table's.
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
    self._console = console or rich.console.Console()
    self.source = source.find(name)
    self.scale = self.source.scale(scale)
    self.table = self.source.table(self.scale)
    self.targets = targets.check(self.table)
    self.out = Path(out or default_out(self.source.name, self.scale))
    self.overrides = dict(overrides or {})
    self._chosen = _chosen(self.table, rows)
    seeds = None if seeds is None else list(seeds)
    self._sweeps = {
      part: api.Prepared(
        self.source.config(self.scale, part),
        self.out / part,
        overrides=self.overrides,
        console=self._console,
        methods=lambda labels, part=part: self._methods(part, labels, rows),
        seeds=seeds,
        other_metrics=[c.metric for c in self._cells(part) if c.metric],
        **options,
      )
      for part in self.table.parts
      if part != papers.MEASURE and self._wants(part)
    }
    if self.overrides and not self._sweeps:
      raise errors.UserError(
        f"override of {next(iter(self.overrides))!r} has no effect:"
        f" {self.source.path} trains nothing at this scale."
      )
    self._said = expected.said(self.source.name, self.scale, self.table)
    expected.check(self.out, self._said, self._has_runs())

  def _cells(self, part: str) -> list[papers.Cell]:
    return [cell for cell in self.table.cells if cell.part == part]

  def _wants(self, part: str) -> bool:
    return any(cell.ref in self._chosen for cell in self._cells(part))

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
    found = (f"*/{directory.RUNS}/*", f"{papers.MEASURE}/{VALUES}")
    return any(True for pattern in found for _ in self.out.glob(pattern))

  # ----- Without running -----

  def show(self, *, compiles: bool = True) -> None:
    """Prints what is expected, and what would run; writes nothing.

    Args:
      compiles: whether each program is compiled, for its memory and time.

    Raises:
      UserError: bad input; data that is missing is a DataError.
    """
    for text in self._head():
      self.say(text)
    for part, prepared in self._sweeps.items():
      if len(self.table.parts) > 1:
        self.say(f"Part {part}:")
      prepared.show()
      self._check(part, prepared, strict=True)
      if compiles:
        prepared.show_programs()

  def _head(self) -> list[str]:
    table = self.table
    lines = [
      f"{self.source.name}: {table.title} (scale {self.scale}; arXiv"
      f" {self.targets.arxiv or 'none'})",
      f"Needs {table.hardware}"
      + (f"; {table.time}" if table.time else "; time not measured")
      + ".",
      f"Otherwise than the paper: {table.differs}",
    ]
    if self.overrides:
      return [*lines, f"{overridden(self.overrides)}: nothing is judged."]
    lines.append("Expected, before it is measured:")
    for each in table.expected:
      lines.append(f"  {each.claim}{each.source and f' ({each.source})'}")
    return [*lines, *self._attainable()]

  def _attainable(self) -> list[str]:
    """What the seeds can decide of the statements that need a test."""
    from normjax.report import paper

    numbers = [len(each.sweep.seeds) for each in self._sweeps.values()]
    found = paper.attainable(self.table, min(numbers)) if numbers else None
    return [f"What it can decide of these: {found}"] if found else []

  def _check(
    self, part: str, prepared: api.Prepared, *, strict: bool = False
  ) -> None:
    """Checks what is left to run, and names cells where a metric is wrong."""
    try:
      prepared.check(strict=strict)
    except errors.UserError as error:
      cells = [
        papers.shown(cell.ref)
        for cell in self._cells(part)
        if cell.metric
        and f"Sweep.other_metrics {target.measured(cell.metric)!r}"
        in str(error)
      ]
      if not cells:
        raise
      said = str(error).replace("Sweep.other_metrics", "Cell.metric")
      raise type(error)(f"cell {errors.few(cells)}: {said}") from error

  def say(self, text: str) -> None:
    """Prints a line."""
    self._console.print(escape.terminal(text), soft_wrap=True)

  # ----- Running -----

  def run(self) -> Outcome:
    """Measures what is left, part by part, and writes the table.

    Raises:
      UserError: bad input, before anything has run.
      RunError: a folder is in use, or full.
    """
    for part, prepared in self._sweeps.items():
      self._check(part, prepared)
    expected.write(self.out, self._said)
    summaries: dict[str, Summary] = {}
    computed = None
    with spent.counted(self.out) as count:
      for part in self.table.parts:
        if len(self.table.parts) > 1 and self._wants(part):
          self.say(f"Part {part}:")
        if part == papers.MEASURE and self._wants(part):
          count.runs += not (self.out / papers.MEASURE / VALUES).exists()
          computed = self._measure()
        elif part in self._sweeps:
          summary = summaries[part] = self._sweeps[part].run()
          count.runs += summary.num_ran
          if summary.interrupted:
            break
    return self._tell(summaries, computed)

  def _measure(self) -> Mapping[papers.Ref, Any]:
    """The values of the part that is computed; they stay beside the runs."""
    values = self.source.measure(self.scale)
    plain = {papers.shown(ref): list(own) for ref, own in values.items()}
    files.write_json(self.out / papers.MEASURE / VALUES, plain)
    return values

  def _tell(
    self,
    summaries: Mapping[str, Summary],
    computed: Mapping[papers.Ref, Any] | None,
  ) -> Outcome:
    """Writes and prints the table, and what went wrong."""
    from normjax.report import paper

    records = self.records()
    for part in records:
      report.write_report(self.out / part)
    measured = paper.measured(self.table, records, computed)
    head, table = [], self.table
    if self.overrides:  # Another question: the statements are not about it.
      head = [overridden(self.overrides)]
      table = dataclasses.replace(table, expected=())
    judged = paper.judge(table, self.scale, measured, head=head)
    paths = paper.write(self.out, judged)
    paper.print_table(judged, self._console)
    for part, summary in summaries.items():
      own = f"{part}: " if len(self.table.parts) > 1 else ""
      self.say(f"{own}{summary.text(choosing='--rows and --seeds')}")
    self.say(f"table: {paths.html}")
    codes = [summary.exit_code for summary in summaries.values()]
    return Outcome(judged, self.out, summaries, max(codes, default=0))

  def records(self) -> dict[str, load.SweepRecord]:
    """What each part's sweep has left, where it was begun."""
    return {
      part: load.load(self.out / part)
      for part in self.table.parts
      if part != papers.MEASURE and (self.out / part / directory.PLAN).is_file()
    }


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
