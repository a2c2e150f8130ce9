"""A comparison's report, from the files of its runs and nothing else.

    <out>/report/table.{md,csv,tex}   the table; the TeX fits a column
    <out>/report/table_full.tex       all of its columns, for a page
    <out>/report/table_ladder.{md,csv} speed-ups, of a sweep with a ladder
    <out>/report/table_widths.{md,csv} exponents, of ranks over widths
    <out>/report/runs.csv             every run
    <out>/report/runs/*.html          a page per run
    <out>/report/report.html          the same with figures, one file
    <out>/report/figures/*.{svg,pdf}  the figures, for a screen and a column

Nothing here imports jax, and importing this package imports nothing heavy.
"""

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from normjax import errors, escape, faults

if TYPE_CHECKING:
  from rich.console import Console

  from normjax.report.load import SweepRecord
  from normjax.report.stats import Row


@dataclasses.dataclass(frozen=True)
class ReportPaths:
  """What `write_report` wrote."""

  html: Path
  markdown: Path
  csv: Path
  tex: Path
  figures: tuple[Path, ...]


def write_report(out: Path) -> ReportPaths:
  """Writes `<out>/report/`, also of a sweep that is not over.

  Files are replaced one by one and only once all are made, so that a reader
  never sees half a file.

  Args:
    out: directory of a sweep (plan.json, runs/), or of single runs.

  Raises:
    RunError: `out` is neither, or cannot be written.
  """
  from normjax.report import load, stats

  sweep = load.load(Path(out))
  return _write(sweep, stats.summarize(sweep))


def write_and_print(out: Path, console: "Console | None" = None) -> ReportPaths:
  """Does what `write_report` and `print_table` do, from one reading."""
  from normjax.report import load, stats

  sweep = load.load(Path(out))
  rows = stats.summarize(sweep)
  paths = _write(sweep, rows)
  _print(sweep, rows, console)
  return paths


def _write(sweep: "SweepRecord", rows: "Sequence[Row]") -> ReportPaths:
  from normjax.report import (
    arithmetic,
    facts,
    formats,
    ladder_table,
    latex,
    page,
    plots,
    redraw,
    run_pages,
    tables,
    web,
    widths,
  )
  from normjax.report import ladder as ladder_lib
  from normjax.report.plots import ladder as ladder_plots

  report = sweep.directory / "report"
  table = tables.build(sweep, rows)
  ladder = ladder_lib.analyse(sweep)
  figures = plots.build(sweep, rows)
  if ladder:
    figures = [*ladder_plots.build(sweep, ladder), *figures]
  drawn = redraw.draw(figures, report / "figures")
  # These are copied from here; the page says it at its head.
  alone = dataclasses.replace(
    table,
    notes=(
      *facts.incomplete(sweep),
      *arithmetic.differences(sweep),
      *table.notes,
    ),
  )
  texts: dict[str, str | bytes] = {
    "table.md": formats.markdown(alone),
    "table.csv": formats.comma_separated(sweep, rows),
    "table.tex": latex.column(sweep, rows, alone),
    "table_full.tex": latex.full(alone),
    "runs.csv": formats.runs(sweep),
  }
  if ladder:
    across = ladder_table.build(sweep, ladder)
    texts["table_ladder.md"] = formats.markdown(across)
    texts["table_ladder.csv"] = ladder_table.comma_separated(sweep, ladder)
  growths = widths.analyse(sweep)
  if growths:
    texts["table_widths.md"] = formats.markdown(widths.table(growths))
    texts["table_widths.csv"] = widths.comma_separated(growths)
  own = run_pages.build(sweep)
  if own:
    texts |= {"runs/page.css": web.css(), "runs/page.js": web.script()}
    texts |= {f"runs/{name}": text for name, text in own.values()}
  # Last: what it links to is there.
  pages = {run_id: f"runs/{name}" for run_id, (name, _) in own.items()}
  texts["report.html"] = page.render(
    sweep, rows, table, drawn, pages, ladder, growths
  )
  for each in drawn:
    texts[f"figures/{each.figure.name}.svg"] = each.svg
    texts[f"figures/{each.figure.name}.pdf"] = each.pdf
  try:
    _replace(report, texts)
  except OSError as error:
    raise errors.RunError(f"cannot write {report}: {error}") from error
  return ReportPaths(
    html=report / "report.html",
    markdown=report / "table.md",
    csv=report / "table.csv",
    tex=report / "table.tex",
    figures=tuple(
      report / "figures" / f"{each.figure.name}.svg" for each in drawn
    ),
  )


# What a report owns there: files that it no longer makes are removed.
_FOLDERS = {"figures": (".svg", ".pdf"), "runs": (".html",)}


def _replace(report: Path, texts: Mapping[str, str | bytes]) -> None:
  """Puts the files in place and removes what is no longer made."""
  for folder in _FOLDERS:
    faults.make_folder(report / folder)
  scratch = Path(tempfile.mkdtemp(dir=report, prefix=".new."))
  try:
    for folder in _FOLDERS:
      (scratch / folder).mkdir()
    for name, text in texts.items():
      content = text.encode() if isinstance(text, str) else text
      (scratch / name).write_bytes(content)
    for name in texts:
      os.replace(scratch / name, report / name)
  finally:
    shutil.rmtree(scratch)
  for folder, suffixes in _FOLDERS.items():
    for path in (report / folder).iterdir():
      name = f"{folder}/{path.name}"
      if path.suffix in suffixes and name not in texts:
        path.unlink(missing_ok=True)  # Another launcher reports too.


def print_table(out: Path, console: "Console | None" = None) -> None:
  """Prints the comparison in the terminal.

  Args:
    out: as for `write_report`.
    console: a rich console; standard output by default.

  Raises:
    RunError: `out` holds no runs.
  """
  from normjax.report import load, stats

  sweep = load.load(Path(out))
  _print(sweep, stats.summarize(sweep), console)


def _print(
  sweep: "SweepRecord", rows: "Sequence[Row]", console: "Console | None"
) -> None:
  from rich.console import Console

  from normjax.report import (
    facts,
    findings,
    formats,
    ladder_table,
    tables,
    widths,
  )
  from normjax.report import ladder as ladder_lib

  console = console or Console()
  table = tables.build(sweep, rows)
  console.print(formats.terminal(table, console))

  def show(text: str, style: str | None = None) -> None:
    console.print(escape.terminal(text, style or ""))

  found = findings.build(sweep, rows)
  for sentence in found:
    show(sentence)
  for note in table.notes:
    if note not in found:
      show(note, style="dim")
  if ladder := ladder_lib.analyse(sweep):
    across = ladder_table.build(sweep, ladder)
    console.print(formats.terminal(across, console))
    for sentence in ladder_table.findings(ladder):
      show(sentence)
    for note in across.notes:
      show(note, style="dim")
  if growths := widths.analyse(sweep):
    over = widths.table(growths)
    console.print(formats.terminal(over, console))
    for note in over.notes:
      show(note, style="dim")
  for line in facts.incomplete(sweep):
    show(line, style="yellow")
  for line in facts.failures(sweep):
    show(line, style="red")
  for line in facts.warnings(sweep, rows):
    show(f"warning: {line}", style="yellow")
