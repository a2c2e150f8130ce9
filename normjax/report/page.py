"""One self-contained HTML file: no network, no other file."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import markupsafe

from normjax.record import rungs
from normjax.report import (
  arithmetic,
  facts,
  findings,
  formats,
  ladder_table,
  provenance,
  stats,
  tables,
  verdicts,
  web,
  widths,
)
from normjax.report import ladder as ladder_lib
from normjax.report.figure import GRID, INK, PAPER
from normjax.report.load import Run, SweepRecord
from normjax.report.redraw import Drawn

# Of the page's list of runs; runs.csv has all.
_MAX_LISTED = 500
# The figures' fixed colours, replaced by the page's own.
_THEME = {
  INK: "currentColor",
  PAPER: "var(--paper)",
  GRID: "var(--grid)",
}
_TRENDS = {
  ladder_lib.GROWS: "better",
  ladder_lib.FADES: "worse",
  ladder_lib.DIVERGED: "worse",
}


def inline(drawn: Drawn) -> markupsafe.Markup:
  """The figure's SVG for use inside HTML.

  Ids get the figure's name in front, since those of two figures collide;
  namespaces, prolog and the style of `*` are dropped, since they are for a
  document of its own.
  """
  figure = drawn.figure
  svg = drawn.svg[drawn.svg.index("<svg") :]
  svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
  svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
  svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
  # Tags alone: a name in the text may look like an attribute.
  svg = re.sub(r"<[^>]+>", lambda tag: _inline_tag(tag[0], figure.name), svg)
  label = markupsafe.escape(figure.title)
  svg = svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
  return markupsafe.Markup(svg)


def _inline_tag(tag: str, prefix: str) -> str:
  tag = re.sub(r' xmlns(:\w+)?="[^"]*"', "", tag)
  tag = tag.replace("xlink:href=", "href=")
  tag = re.sub(r'(\bid=")', rf"\1{prefix}-", tag)
  tag = re.sub(r'(href="#|url\(#)', rf"\1{prefix}-", tag)
  for color, name in _THEME.items():
    tag = tag.replace(color, name)
  return tag


def folded(text: str) -> markupsafe.Markup:
  """A cell's text, on two lines where it is long."""
  return markupsafe.Markup("<br>").join(
    markupsafe.escape(web.shown(part)) for part in formats.FOLD.split(text)
  )


def render(
  sweep: SweepRecord,
  rows: Sequence[stats.Row],
  table: tables.Table,
  figures: Sequence[Drawn],
  pages: Mapping[str, str],
  ladder: ladder_lib.Ladder | None = None,
  growths: Sequence[widths.Growth] = (),
) -> str:
  """The report as HTML text.

  Args:
    sweep: the comparison.
    rows: one per method.
    table: the same as text.
    figures: in order.
    pages: file of a run's own page, by run id.
    ladder: what the sweep says across sizes, if it has several.
    growths: of ranks over widths, if it varies one.
  """
  keys, configs = facts.config_table(sweep)
  ran_with, ran = arithmetic.table(sweep)
  listed = _first(sweep, _MAX_LISTED)
  return web.template(
    "page.html.j2", folded=folded, breakable=web.breakable
  ).render(
    css=markupsafe.Markup(web.css()),
    script=markupsafe.Markup(web.script()),
    num_runs=len(sweep.runs),
    num_pages=len(pages),
    title=_title(sweep),
    complete=facts.is_complete(sweep),
    progress=facts.progress(sweep),
    findings=[
      *(ladder_table.findings(ladder) if ladder else []),
      *findings.build(sweep, rows),
    ],
    compared=[
      *facts.compared(sweep, rows),
      *(rungs.protocol(sweep.rungs) if ladder else []),
    ],
    table=table,
    tone=verdicts.tone,
    trends=_TRENDS,
    ladder=ladder_table.build(sweep, ladder) if ladder else None,
    widths=widths.table(growths) if growths else None,
    figures=[
      (drawn.figure, inline(drawn), web.figure_data(drawn.figure))
      for drawn in figures
    ],
    limits=[
      *(ladder_table.limits(sweep) if ladder else []),
      *facts.limits(sweep, rows),
    ],
    failures=facts.failures(sweep),
    unfinished=facts.unfinished(sweep),
    warnings=facts.warnings(sweep, rows),
    config_keys=keys,
    configs=configs,
    base_config=facts.base_config(sweep),
    ran_with=ran_with,
    ran=ran,
    provenance=provenance.lines(sweep),
    created=provenance.created(sweep),
    diffs=provenance.diffs(sweep),
    runs=[_run_line(run, sweep, pages) for run in listed],
  )


def _title(sweep: SweepRecord) -> str:
  name = sweep.config_file or sweep.directory.resolve().name
  return re.sub(r"\.py$", "", name.rpartition("/")[2]).replace("_", " ")


def _first(sweep: SweepRecord, count: int) -> list[Run]:
  """The first runs in the order in which a reader wants them."""
  if len(sweep.runs) <= count:
    return list(sweep.runs)
  return sorted(sweep.runs, key=lambda run: run.stage != "final")[:count]


def _run_line(
  run: Run, sweep: SweepRecord, pages: Mapping[str, str]
) -> dict[str, Any]:
  value = run.metric(sweep.metric)
  train_s = run.result.get("train_s")
  return {
    "id": run.run_id,
    "page": pages.get(run.run_id),
    "method": run.method,
    "stage": run.stage,
    "overrides": ", ".join(
      f"{key}={tables.show_value(item)}"
      for key, item in run.overrides.items()
      if key in sweep.tuned_keys
    ),
    "seed": run.seed,
    "state": run.state,
    "metric": tables.NOTHING if value is None else f"{value:.6g}",
    "train_s": tables.NOTHING if train_s is None else f"{train_s:.1f}",
  }
