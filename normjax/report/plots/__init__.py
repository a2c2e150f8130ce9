"""The figures of a report, as data.

A kind of figure is one file here, and its functions are lines of `_BUILDERS`.
"""

import dataclasses
from collections.abc import Iterable, Sequence

from normjax.report import stats
from normjax.report.figure import MAX_METHODS, Figure
from normjax.report.load import SweepRecord
from normjax.report.plots import (
  curves,
  depth,
  divergence,
  intervals,
  memory,
  pareto,
  sensitivity,
)

# Each takes a sweep and its rows and gives the figures there is data for.
_BUILDERS = (
  intervals.build,
  curves.by_step,
  curves.by_time,
  pareto.build,
  memory.build,
  sensitivity.build,
  depth.build,
  divergence.build,
)


def build(sweep: SweepRecord, rows: Sequence[stats.Row]) -> list[Figure]:
  """The figures for which there is data."""
  shown = _best(sweep, rows)
  drawn = dataclasses.replace(sweep, methods=tuple(row.method for row in shown))
  figures = [f for builder in _BUILDERS for f in builder(drawn, shown)]
  if len(shown) < len(rows):
    said = f" Drawn are the best {len(shown)} of {len(rows)} methods."
    figures = [
      dataclasses.replace(figure, caption=figure.caption + said)
      for figure in figures
    ]
  return list(_distinct(figures))


def _best(sweep: SweepRecord, rows: Sequence[stats.Row]) -> Sequence[stats.Row]:
  """The baseline and the best rows, as many as can be told apart."""
  if len(rows) <= MAX_METHODS:
    return rows
  kept = intervals.ranked(sweep, rows)
  kept.sort(key=lambda row: row.label != sweep.baseline)
  labels = {row.label for row in kept[:MAX_METHODS]}
  return [row for row in rows if row.label in labels]


def _distinct(figures: Iterable[Figure]) -> Iterable[Figure]:
  """Figures whose names, which are files', differ."""
  found: set[str] = set()
  for figure in figures:
    stem, count = figure.name, 2
    while figure.name in found:
      figure = dataclasses.replace(figure, name=f"{stem}_{count}")
      count += 1
    found.add(figure.name)
    yield figure
