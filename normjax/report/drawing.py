"""What all figures share: colours, lines, legend, SVG text.

Colours are Okabe and Ito's and their kin, told apart with the common kinds of
colour blindness. The SVG is the same for the same input.
"""

import dataclasses
import io
import re
import warnings
from collections.abc import Sequence

from matplotlib.figure import Figure as MplFigure
from matplotlib.lines import Line2D

from normjax import escape
from normjax.report.load import SweepRecord

# Drawn as these, so that a page can put its own colours in their place.
INK = "#1a1b1c"
PAPER = "#fefefd"
GRID = "#dcdddf"

_COLORS = (
  "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#a89400",
  "#8c8c8c",
)  # fmt: skip
_LINES = ("-", (0, (5, 2)), (0, (1.2, 1.4)), (0, (6, 1.5, 1.2, 1.5)))
MAX_NAME = 60  # characters
_MARKERS = ("o", "s", "^", "D")
RC = {
  "svg.hashsalt": "normjax",
  "svg.fonttype": "none",
  "font.family": "sans-serif",
  "font.sans-serif": ["DejaVu Sans", "Verdana", "Helvetica", "Arial"],
  "font.size": 10,
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
  "grid.linewidth": 0.8,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "legend.frameon": False,
  "axes.titlesize": 10,
  "axes.titlelocation": "left",
  # Names are text: a dollar sign in one begins no formula.
  "text.parse_math": False,
}


@dataclasses.dataclass(frozen=True)
class Figure:
  """A figure: file stem, title, what it shows, SVG text."""

  name: str
  title: str
  caption: str
  svg: str


@dataclasses.dataclass(frozen=True)
class Style:
  """How a method is drawn in every figure."""

  color: str
  line: str | tuple
  marker: str


def styles(sweep: SweepRecord) -> dict[str, Style]:
  """A style per method, by label.

  Where the methods are a grid of two options, as norm × optimizer, colour
  tells the first and line and marker the second; else both go in cycles.
  """
  overrides = [m.overrides for m in sweep.methods]
  keys = list(dict.fromkeys(key for o in overrides for key in o))
  codes = {}
  for key in keys:
    values = list(dict.fromkeys(str(o.get(key)) for o in overrides))
    codes[key] = [values.index(str(o.get(key))) for o in overrides]
  varying = [key for key in keys if max(codes[key]) > 0]
  pairs = [(i % len(_COLORS), i // len(_COLORS)) for i in range(len(overrides))]
  if len(varying) == 2:
    grid = list(zip(codes[varying[0]], codes[varying[1]], strict=True))
    fits = max(a for a, _ in grid) < len(_COLORS) and max(
      b for _, b in grid
    ) < len(_LINES)
    if fits and len(set(grid)) == len(grid):
      pairs = grid
  return {
    method.label: Style(
      _COLORS[a], _LINES[b % len(_LINES)], _MARKERS[b % len(_MARKERS)]
    )
    for method, (a, b) in zip(sweep.methods, pairs, strict=True)
  }


def name(text: str) -> str:
  """A user's name as a figure shows it: one line that leaves room to draw."""
  text = escape.plain(text)
  if len(text) <= MAX_NAME:
    return text
  return f"{text[: MAX_NAME - 20]}…{text[-19:]}"


def save(figure: MplFigure) -> str:
  """The figure as SVG text, the same bytes each time."""
  file = io.StringIO()
  # Matplotlib's own metadata holds the date and links.
  empty = dict.fromkeys(("Date", "Creator", "Format", "Type"))
  with warnings.catch_warnings():
    # Text stays text in the SVG: the reader's fonts draw it.
    warnings.filterwarnings("ignore", message=r"Glyph \d+ .*missing from font")
    figure.savefig(file, format="svg", metadata=empty)
  return re.sub(r"[ \t]+\n", "\n", file.getvalue())


def legend(figure: MplFigure, handles: Sequence[Line2D]) -> None:
  """Below the axes, in as many columns as the labels leave room for."""
  labels = [str(handle.get_label()) for handle in handles]
  longest = max(map(len, labels))
  # In characters: a figure is 10 inches wide, a letter about 0.085.
  columns = max(1, min(len(handles), int(10 / (0.75 + 0.085 * longest))))
  # Its lines must not take the axes' room.
  height = 4.2 + 0.22 * -(-len(handles) // columns)
  figure.set_figheight(max(figure.get_figheight(), height))
  figure.legend(
    handles=handles,
    loc="outside lower center",
    ncols=columns,
    handlelength=3,
    columnspacing=1.6,
  )
