"""Figures by matplotlib, without its global state: SVG and PDF.

The SVG is for a page, the PDF for a column of a paper. Both are the same bytes
for the same figure. `redraw` says when they are made: matplotlib takes half a
second to import.
"""

import io
import re
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MplFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from normjax.report import figure as fig
from normjax.report import tags
from normjax.report.figure import (
  GRID,
  INK,
  PAPER,
  Bars,
  Figure,
  Lines,
  Series,
  Style,
  Whiskers,
)

_RC = {
  "svg.hashsalt": "normjax",
  "svg.fonttype": "none",
  # TrueType: journals refuse Type 3.
  "pdf.fonttype": 42,
  "font.family": "sans-serif",
  "font.sans-serif": ["DejaVu Sans", "Verdana", "Helvetica", "Arial"],
  "figure.facecolor": PAPER,
  "axes.facecolor": PAPER,
  "savefig.facecolor": PAPER,
  "text.color": INK,
  "axes.labelcolor": INK,
  "axes.edgecolor": INK,
  "xtick.color": INK,
  "ytick.color": INK,
  "axes.grid": True,
  "axes.axisbelow": True,
  "grid.color": GRID,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "legend.frameon": False,
  "axes.titlelocation": "left",
  # Names are text: a dollar sign in one begins no formula.
  "text.parse_math": False,
}


class _Layout(NamedTuple):
  """For a page or for a column.

  Attributes:
    width_in: of the figure.
    font_pt: of all text.
    scale: of line widths and markers.
    stacked: panels below each other.
    panel_in: height of a panel of lines.
    max_name: characters of a method's name.
  """

  width_in: float
  font_pt: float
  scale: float
  stacked: bool
  panel_in: float
  max_name: int


_PAGE = _Layout(10, 10, 1, False, 4.2, fig.MAX_NAME)
_COLUMN = _Layout(3.3, 7, 0.65, True, 2.1, 28)


def svg(figure: Figure) -> str:
  """The figure 10 in wide; its text stays text, in the reader's fonts."""
  file = io.BytesIO()
  # Matplotlib's own metadata holds the date and links.
  empty = dict.fromkeys(("Date", "Creator", "Format", "Type"))
  _save(figure, _PAGE, file, format="svg", metadata=empty)
  return re.sub(r"[ \t]+\n", "\n", file.getvalue().decode())


def pdf(figure: Figure, keywords: str) -> bytes:
  """The figure at the width of a column, 3.3 in, its fonts embedded."""
  file = io.BytesIO()
  metadata = dict.fromkeys(("CreationDate", "Creator", "Producer"))
  metadata |= {"Title": figure.title, "Keywords": keywords}
  _save(figure, _COLUMN, file, format="pdf", metadata=metadata)
  return file.getvalue()


def _save(figure: Figure, layout: _Layout, file: io.BytesIO, **options) -> None:
  scaled = {
    "font.size": layout.font_pt,
    "axes.titlesize": layout.font_pt,
    "grid.linewidth": 0.8 * layout.scale,
    "axes.linewidth": 0.8 * layout.scale,
    "xtick.major.width": 0.8 * layout.scale,
    "ytick.major.width": 0.8 * layout.scale,
    "lines.markeredgewidth": layout.scale,
    "hatch.linewidth": layout.scale,
  }
  with matplotlib.rc_context(_RC | scaled), warnings.catch_warnings():
    # Text stays text in the SVG: the reader's fonts draw it.
    warnings.filterwarnings("ignore", message=r"Glyph \d+ .*missing from font")
    _draw(figure, layout).savefig(file, **options)


def _draw(figure: Figure, layout: _Layout) -> MplFigure:
  count = len(figure.panels)
  columns = 1 if layout.stacked else min(count, 2)
  lines = -(-count // columns)
  # Rows of text are told in lines, whatever their size.
  height = sum(
    max(_height_in(p, layout) for p in figure.panels[i : i + columns])
    for i in range(0, count, columns)
  )
  canvas = MplFigure(figsize=(layout.width_in, height), layout="constrained")
  rowed = not isinstance(figure.panels[0], Lines)
  all_axes = canvas.subplots(
    lines, columns, sharey=rowed and not layout.stacked, squeeze=False
  ).ravel()
  for ax, panel in zip(all_axes, figure.panels, strict=False):
    _PANELS[type(panel)](ax, panel, figure, layout)
  for ax in all_axes[count:]:
    ax.set_axis_off()
  if figure.labels:
    _legend(canvas, figure, layout)
  if any(figure.tags.values()):
    canvas.draw_without_rendering()  # Where all is, once laid out.
    for ax, panel in zip(all_axes, figure.panels, strict=False):
      tags.place(ax, panel, layout.font_pt)
  for panel in figure.panels:
    if isinstance(panel, Whiskers) and panel.band:
      canvas.legend(
        handles=[Patch(color=GRID, label=panel.band.label)],
        loc="outside lower right",
      )
  return canvas


def _height_in(panel: fig.Panel, layout: _Layout) -> float:
  if isinstance(panel, Lines):
    return layout.panel_in
  line_in = 3 * layout.font_pt / 100
  return 1.1 * layout.font_pt / 10 + line_in * max(len(panel.rows), 1)


def _short(label: str, layout: _Layout) -> str:
  text = fig.name(label)
  if len(text) <= layout.max_name:
    return text
  tail = layout.max_name // 3
  return f"{text[: layout.max_name - tail - 1]}…{text[-tail:]}"


def _whiskers(
  ax: Axes, panel: Whiskers, figure: Figure, layout: _Layout
) -> None:
  for y, row in enumerate(panel.rows):
    style = figure.styles[row.label]
    if row.mean is not None:
      half = None if row.high is None else row.high - row.mean
      ax.errorbar(
        row.mean, y, xerr=half, fmt=style.marker, color=style.color,
        capsize=3 * layout.scale, markersize=5.5 * layout.scale,
        linewidth=1.6 * layout.scale,
        markerfacecolor=PAPER if row.hollow else style.color,
      )  # fmt: skip
    ax.plot(
      row.values, [y] * len(row.values), "|",
      color=style.color, markersize=9 * layout.scale, alpha=0.8,
    )  # fmt: skip
    if row.word:
      ax.text(
        0.5, y, row.word, transform=ax.get_yaxis_transform(),
        ha="center", va="center", style="italic",
      )  # fmt: skip
  _rows(ax, [_short(row.label, layout) + row.mark for row in panel.rows])
  if panel.zero:
    ax.axvline(0, color=INK, linewidth=layout.scale)
  if panel.band:
    half = panel.band.half_width
    # Below the grid, which it would hide.
    ax.axvspan(-half, half, color=GRID, alpha=0.6, linewidth=0, zorder=0)
  ax.set_xlabel(panel.x_label)
  # In a column a title has the room above the names too.
  ax.set_title(panel.title, loc="right" if layout.stacked else "left")
  ax.locator_params(axis="x", nbins=4 if layout.stacked else 6)


def _rows(ax: Axes, labels: Sequence[str]) -> None:
  """A y-axis with a name per row, the first at the top."""
  ax.set_yticks(range(len(labels)), labels)
  ax.set_ylim(len(labels) - 0.5, -0.5)
  ax.grid(axis="y", visible=False)
  ax.tick_params(axis="y", length=0)


def _bars(ax: Axes, panel: Bars, figure: Figure, layout: _Layout) -> None:
  for y, (label, filled, hatched) in enumerate(panel.rows):
    color = figure.styles[label].color
    ax.barh(y - 0.18, filled, 0.34, color=color)
    if panel.hatched:
      ax.barh(
        y + 0.18, hatched, 0.34, color="none", edgecolor=color, hatch="////",
        linewidth=layout.scale,
      )  # fmt: skip
  _rows(ax, [_short(label, layout) for label, _, _ in panel.rows])
  ax.set_xlim(0, 100)
  ax.set_xlabel(panel.x_label)


def _lines(ax: Axes, panel: Lines, figure: Figure, layout: _Layout) -> None:
  if panel.log_x:
    ax.set_xscale("log")
  for series in panel.series:
    _LOOKS[series.look](ax, panel, series, figure.styles[series.label], layout)
  if panel.ticks:
    ax.minorticks_off()
    # Every second one has room in a column.
    ticks = panel.ticks[:: 2 if layout.stacked and len(panel.ticks) > 6 else 1]
    ax.set_xticks(ticks, [tick_label(x) for x in ticks])
  if panel.y_limits:
    ax.set_ylim(*panel.y_limits)
  ax.set_xlabel(panel.x_label)
  ax.set_ylabel(panel.y_label)
  ax.set_title(panel.title)


def tick_label(value: float) -> str:
  """A number on an axis: 0.003, 29.8, 1,200; 1e+06 from a million on."""
  return f"{value:,.0f}" if 1e3 <= value < 1e6 else f"{value:.3g}"


def _dash(style: Style) -> str | tuple:
  return (0, style.dash) if style.dash else "-"


def _plot(
  ax: Axes,
  series: Series,
  style: Style,
  layout: _Layout,
  *,
  width: float,
  size: float = 0.0,
  **options: Any,
) -> None:
  """The series as a line in its method's style; width and size in points."""
  ax.plot(
    series.x, series.y, color=style.color, linestyle=_dash(style),
    linewidth=width * layout.scale, markersize=size * layout.scale, **options,
  )  # fmt: skip


def _line(
  ax: Axes, panel: Lines, series: Series, style: Style, layout: _Layout
) -> None:
  del panel
  _plot(ax, series, style, layout, width=1.4)
  if series.low:
    ax.fill_between(
      series.x, series.low, series.high, color=style.color, alpha=0.18,
      linewidth=0,
    )  # fmt: skip


def _trials(
  ax: Axes, panel: Lines, series: Series, style: Style, layout: _Layout
) -> None:
  del panel
  _plot(ax, series, style, layout, width=1.5, size=4.5, marker=style.marker)


def _chosen(
  ax: Axes, panel: Lines, series: Series, style: Style, layout: _Layout
) -> None:
  del panel
  ax.plot(
    series.x, series.y, "o", color=style.color, markersize=11 * layout.scale,
    markerfacecolor="none", markeredgewidth=1.6 * layout.scale,
  )  # fmt: skip


def _diverged(
  ax: Axes, panel: Lines, series: Series, style: Style, layout: _Layout
) -> None:
  del panel
  _plot(
    ax, series, style, layout, width=0.9, size=6, marker="x", markevery=[-1],
    alpha=0.8,
  )  # fmt: skip


def _lost(
  ax: Axes, panel: Lines, series: Series, style: Style, layout: _Layout
) -> None:
  edge = 0.98 if panel.worse == "top" else 0.02
  ax.plot(
    series.x, [edge] * len(series.x), "x", color=style.color,
    markersize=7 * layout.scale, transform=ax.get_xaxis_transform(),
    clip_on=False,
  )  # fmt: skip


def _points(
  ax: Axes,
  panel: Lines,
  series: Series,
  style: Style,
  layout: _Layout,
  **options: Any,
) -> None:
  del panel
  ends = [
    np.subtract(series.y, series.low), np.subtract(series.high, series.y)
  ] if series.high else None  # fmt: skip
  ax.errorbar(
    series.x, series.y, yerr=ends, fmt=style.marker, color=style.color,
    capsize=3 * layout.scale, markersize=6 * layout.scale,
    linewidth=1.4 * layout.scale, **options,
  )  # fmt: skip


def _faint(
  ax: Axes, panel: Lines, series: Series, style: Style, layout: _Layout
) -> None:
  _points(ax, panel, series, style, layout, alpha=0.55, markerfacecolor=PAPER)


_PANELS = {Lines: _lines, Whiskers: _whiskers, Bars: _bars}
_LOOKS = {
  fig.LINE: _line,
  fig.TRIALS: _trials,
  fig.CHOSEN: _chosen,
  fig.DIVERGED: _diverged,
  fig.LOST: _lost,
  fig.POINTS: _points,
  fig.FAINT: _faint,
}
# Looks whose methods a marker tells, and those that have no line beside it.
_MARKED = {fig.TRIALS, fig.POINTS, fig.FAINT}
_LONE = {fig.POINTS, fig.FAINT, fig.LOST}


def _marker(looks: set[str], style: Style) -> str | None:
  if looks & _MARKED:
    return style.marker
  return "x" if looks == {fig.LOST} else None


def _legend(canvas: MplFigure, figure: Figure, layout: _Layout) -> None:
  """Below the axes, in as many columns as the labels leave room for."""
  looks: dict[str, set[str]] = {}
  for series in figure.series:
    looks.setdefault(series.label, set()).add(series.look)
  handles = [
    Line2D(
      [], [], color=figure.styles[label].color,
      linestyle="" if looks[label] <= _LONE else _dash(figure.styles[label]),
      linewidth=1.8 * layout.scale,
      marker=_marker(looks[label], figure.styles[label]),
      markersize=4.5 * layout.scale,
      label=f"{figure.tags[label]} {_short(label, layout)}".strip(),
    )
    for label in figure.labels
  ]  # fmt: skip
  longest = max(len(str(handle.get_label())) for handle in handles)
  # A letter of 10 points is about 0.085 in wide, a handle 0.75 in.
  entry_in = (0.75 + 0.085 * longest) * layout.font_pt / 10
  columns = max(1, min(len(handles), int(layout.width_in / entry_in)))
  # Its lines must not take the axes' room.
  lines = -(-len(handles) // columns)
  added = 0.22 * layout.font_pt / 10 * lines
  canvas.set_figheight(canvas.get_figheight() + added)
  canvas.legend(
    handles=handles,
    loc="outside lower center",
    ncols=columns,
    handlelength=3,
    columnspacing=1.6,
  )
