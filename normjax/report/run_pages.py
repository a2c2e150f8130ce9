"""A page per run: its config, rows, curves and notes.

The pages of a folder share `page.css` and `page.js`.
"""

import json
from collections.abc import Mapping
from typing import Any

from normjax import configure, escape
from normjax.record import files, probe_file
from normjax.record.directory import Found
from normjax.report import (
  arithmetic,
  probe_figures,
  probe_table,
  sketch,
  web,
)
from normjax.report.figure import (
  COLORS,
  MAX_POINTS,
  Figure,
  Lines,
  Series,
  Style,
  thinned,
)
from normjax.report.load import Run, SweepRecord
from normjax.report.tables import NOTHING, show_value

# Final runs and those that went wrong come first.
MAX_PAGES = 200
_STYLE = Style(COLORS[0], (), "o")


def build(sweep: SweepRecord) -> dict[str, tuple[str, str]]:
  """File name and HTML text of a run's page, by run id."""
  started = [run for run in sweep.runs if run.record or run.rows]
  started.sort(key=lambda r: (r.stage != "final", not r.message))
  template = web.template("run.html.j2")
  pages: dict[str, tuple[str, str]] = {}
  for run in started[:MAX_PAGES]:
    name = f"{escape.file_name(run.run_id)}.html"
    pages[run.run_id] = name, template.render(**_content(run, sweep))
  return pages


def _content(run: Run, sweep: SweepRecord) -> dict[str, Any]:
  row_tables, dropped = _row_tables(run)
  curves = _curves(run)
  probed = Found(None)
  if run.directory is not None:
    probed = probe_file.read(run.directory.path / probe_file.FOLDER)
  return {
    "run": run,
    "facts": [
      ("run", run.run_id),
      ("stage", run.stage),
      ("state", str(run.state)),
      *((key, show_value(value)) for key, value in run.overrides.items()),
      *arithmetic.of_run(run).items(),
    ],
    "notes": [
      *filter(None, [run.message]),
      *run.record.get("problems", ()),
      *(p for p in sweep.problems if run.run_id in p),
      *filter(None, [probed.problem]),
    ],
    "probed": _probed(probed.value),
    "data": web.figure_data(curves),
    "sketches": [(panel.title, sketch.svg(panel)) for panel in curves.panels],
    "thinned": MAX_POINTS if dropped else None,
    "values": [
      (name, NOTHING if value is None else f"{value:.6g}")
      for name, value in sorted(run.result.get("metrics", {}).items())
    ],
    "row_tables": row_tables,
    "dropped": dropped,
    "config": [
      (path, json.dumps(value))
      for path, value in configure.leaves(run.record.get("config", {}))
    ],
  }


def _probed(value: Mapping[str, Any] | None) -> dict[str, Any] | None:
  """What `normjax probe` found: sentences and figures."""
  if value is None:
    return None
  return {
    "lines": probe_table.lines(value),
    "of": value["of"],
    "figures": [
      (
        figure.title,
        web.figure_data(figure),
        [(panel.title, sketch.svg(panel)) for panel in figure.panels],
      )
      for figure in probe_figures.build(value)
    ],
  }


def _row_tables(run: Run) -> tuple[list[tuple[str, list, list]], int]:
  """Kind, header and cells of the rows, and how many are left out."""
  found, dropped = [], 0
  for kind in dict.fromkeys(row["kind"] for row in run.rows):
    rows = [row for row in run.rows if row["kind"] == kind]
    kept = thinned(rows)
    dropped += len(rows) - len(kept)
    names = dict.fromkeys(key for row in kept for key in row)
    header = [name for name in names if name not in ("kind", "run_id")]
    found.append(
      (kind, header, [[_cell(row.get(n)) for n in header] for row in kept])
    )
  return found, dropped


def _cell(value: float | None) -> str:
  return NOTHING if value is None else f"{value:.6g}"


def _curves(run: Run) -> Figure:
  """Each metric of training and evaluation in a panel of its own."""
  panels = []
  for kind in ("train", "eval"):
    names = dict.fromkeys(
      key for row in run.rows if row["kind"] == kind for key in row
    )
    for name in (n for n in names if n not in files.ROW_KEYS):
      curve = run.curve(kind, name)
      steps = thinned(sorted(curve))
      if steps:
        series = Series(
          f"{kind} {name}", tuple(steps), tuple(curve[s] for s in steps)
        )
        panels.append(Lines(f"{kind} {name}", "step", (series,)))
  styles = {panel.title: _STYLE for panel in panels}
  return Figure("curves", "Curves", "", tuple(panels), styles)
