"""A judged table as files, and in the terminal."""

import csv
import dataclasses
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import markupsafe
from rich.console import Console

from normjax import errors, escape
from normjax.papers.statements import shown
from normjax.record import files
from normjax.report import formats, web
from normjax.report.paper import layout
from normjax.report.paper.judged import Judged
from normjax.report.paper.numbers import Beside
from normjax.report.paper.origin import Origin
from normjax.report.paper.statements import Statement
from normjax.statistics import Interval

_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})\b")


@dataclasses.dataclass(frozen=True)
class Paths:
  """What `write` wrote."""

  markdown: Path
  csv: Path
  json: Path
  html: Path


def write(out: Path, judged: Judged, origin: Origin | None = None) -> Paths:
  """Writes `<out>/table.{md,csv,json,html}`; a reader sees no half of a file.

  Args:
    out: the folder of the table.
    judged: the table.
    origin: how it was made; None: nothing is said of it.

  Raises:
    RunError: `out` cannot be written.
  """
  out = Path(out)
  paths = Paths(
    *(out / f"table.{end}" for end in ("md", "csv", "json", "html"))
  )
  try:
    files.write_text(paths.markdown, markdown(judged, origin))
    files.write_text(paths.csv, comma_separated(judged))
    files.write_json(paths.json, as_json(judged, origin))
    html = page(judged, _reports(out, judged), origin)
    files.write_text(paths.html, html)
  except OSError as error:
    raise errors.RunError(f"cannot write {out}: {error}") from error
  return paths


def _reports(out: Path, judged: Judged) -> dict[str, str]:
  """The reports of the parts that have one: part to link."""
  links = {part: f"{part}/report/report.html" for part in judged.table.parts}
  return {part: link for part, link in links.items() if (out / link).is_file()}


def markdown(judged: Judged, origin: Origin | None = None) -> str:
  """The statements, then the table, in GitHub's Markdown."""
  blocks = [
    f"# {escape.markdown(layout.title(judged))}",
    *map(escape.markdown_item, layout.lead(judged)),
  ]
  if judged.statements:
    blocks.append(formats.markdown(layout.statements(judged)).rstrip())
  blocks.append(formats.markdown(layout.cells(judged)).rstrip())
  blocks += map(escape.markdown_item, origin.lines() if origin else ())
  return "\n\n".join(blocks) + "\n"


def records(judged: Judged) -> list[dict[str, Any]]:
  """Unrounded numbers: one mapping per cell, then one per statement."""
  cells = [_cell(judged, each) for each in judged.cells]
  empty = dict.fromkeys(cells[0])
  return [
    *cells,
    *(empty | _statement(each) for each in judged.statements),
  ]


def _ends(interval: Interval) -> dict[str, Any]:
  return {
    "n": interval.n, "mean": interval.mean, "ci95_low": interval.low,
    "ci95_high": interval.high, "sd": interval.sd,
  }  # fmt: skip


def _cell(judged: Judged, each: Beside) -> dict[str, Any]:
  number, own = each.number, each.measured
  return {
    "kind": "cell",
    "name": each.cell.row,
    "column": each.cell.column,
    "part": each.cell.part,
    "method": each.cell.label,
    "metric": own.metric,
    "paper": number and (number.text or number.value),
    "paper_pm": number and number.pm,
    "paper_mark": number and number.mark,
    "paper_source": number and number.source,
    **_ends(each.interval),
    "planned": own.num_planned,
    "diverged": len(own.diverged),
    "difference": each.difference,
    "at_least": None,
    "at_most": None,
    "p_holm": each.p_holm,
    "verdict": each.verdict,
    "reason": "",
    "scale": judged.scale,
  }


def _statement(each: Statement) -> dict[str, Any]:
  return {
    "kind": "statement",
    "name": each.expected.claim,
    **_ends(each.interval),
    "paper_source": each.expected.source,
    "at_least": each.expected.at_least,
    "at_most": each.expected.at_most,
    "p_holm": each.p_holm,
    "verdict": each.verdict,
    "reason": each.reason,
  }


def comma_separated(judged: Judged) -> str:
  """`records` as CSV; an unknown number is empty."""
  file = io.StringIO()
  every = records(judged)
  writer = csv.DictWriter(file, list(every[0]), lineterminator="\n")
  writer.writeheader()
  for record in every:
    writer.writerow({k: formats.encodable(v) for k, v in record.items()})
  return file.getvalue()


def as_json(judged: Judged, origin: Origin | None = None) -> dict[str, Any]:
  """All that is known, for programs."""
  table, paper = judged.table, judged.printed
  return {
    "title": table.title,
    "paper": table.paper,
    "paper_title": paper.title,
    "arxiv": paper.arxiv,
    "target": table.target,
    "scale": judged.scale,
    "head": list(judged.head),
    "differs": table.differs,
    "untuned": list(judged.untuned),
    "complete": judged.is_complete,
    "made": origin and origin.told(),
    "verdict": judged.verdict,
    "statements": [
      _statement(each) | each.expected.told() | {"p_value": each.p_value}
      for each in judged.statements
    ],
    "cells": [
      _cell(judged, each)
      | {
        "name": shown(each.cell.ref),
        "values": {str(s): v for s, v in each.measured.values.items()},
        "diverged_seeds": sorted(each.measured.diverged),
      }
      for each in judged.cells
    ],
    "notes": [*layout.statements(judged).notes, *layout.cells(judged).notes],
  }


def page(
  judged: Judged, reports: Mapping[str, str], origin: Origin | None = None
) -> str:
  """One self-contained HTML file.

  Args:
    judged: the table.
    reports: part to the link to its report.
    origin: how it was made.
  """
  return web.template(
    "paper/page.html.j2",
    folded=_folded,
    breakable=web.breakable,
    linked=_linked,
  ).render(
    css=markupsafe.Markup(web.css()),
    script=markupsafe.Markup(web.script()),
    title=layout.title(judged),
    lead=layout.lead(judged),
    complete=judged.is_complete,
    tables=[
      (name, text, table)
      for name, text, table in (
        ("statements", "Stated beforehand", layout.statements(judged)),
        ("numbers", "Numbers", layout.cells(judged)),
      )
      if table.rows
    ],
    tone=layout.tone,
    reports=reports,
    made=origin.lines() if origin else [],
  )


def _linked(text: str) -> markupsafe.Markup:
  """A sentence whose arXiv numbers are links."""
  safe = str(markupsafe.escape(web.shown(text)))
  link = r'<a href="https://arxiv.org/abs/\1">\g<0></a>'
  return markupsafe.Markup(_ARXIV.sub(link, safe))


def _folded(text: str) -> markupsafe.Markup:
  from normjax.report.page import folded  # Late: it imports figures.

  return folded(text)


def print_table(judged: Judged, console: Console | None = None) -> None:
  """Prints the table and its verdicts in the terminal.

  Args:
    judged: the table.
    console: a rich console; standard output by default.
  """
  console = console or Console()
  console.print(escape.terminal(layout.title(judged), "bold"))
  numbers = layout.cells(judged)
  console.print(
    formats.terminal(numbers, console, layout.CELLS_MATTER, layout.tone)
  )
  stated = layout.statements(judged)
  if stated.rows:
    console.print(
      formats.terminal(stated, console, layout.STATEMENTS_MATTER, layout.tone)
    )
  for line in layout.lead(judged):
    is_verdict = line.startswith(layout.VERDICT)
    console.print(escape.terminal(line, "bold" if is_verdict else ""))
  for note in (*stated.notes, *numbers.notes):
    console.print(escape.terminal(note, "dim"))
