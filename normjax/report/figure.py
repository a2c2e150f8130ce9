"""A figure as data: what is drawn, apart from how.

`drawing` makes SVG and PDF of it, the page's script an interactive plot, and
its digest says whether either has to be made again.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence

from normjax import escape
from normjax.report.load import SweepRecord

# Drawn as these, so that a page can put its own colours in their place.
INK = "#1a1b1c"
PAPER = "#fefefd"
GRID = "#dcdddf"
# Okabe and Ito's and their kin, told apart with the common kinds of colour
# blindness.
COLORS = (
  "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#a89400",
  "#8c8c8c",
)  # fmt: skip
# Lengths of strokes and gaps, in line widths.
DASHES = ((), (5, 2), (1.2, 1.4), (6, 1.5, 1.2, 1.5))
MARKERS = ("o", "s", "^", "D")
MAX_NAME = 60  # characters
# More methods than this are not drawn: nobody could tell them apart.
MAX_METHODS = 48
# More points on a line than this are not seen.
MAX_POINTS = 250

# How a series is drawn.
LINE = "line"
TRIALS = "trials"  # A line with a marker at each value.
CHOSEN = "chosen"  # Rings.
DIVERGED = "diverged"  # A thin line that ends in ×.
LOST = "lost"  # × on the panel's worse edge.
POINTS = "points"  # Markers, with whiskers from low to high.
FAINT = "faint"  # The same, hollow and pale.


@dataclasses.dataclass(frozen=True)
class Style:
  """How a method is drawn in every figure: indices of the tables above."""

  color: str
  dash: tuple[float, ...]
  marker: str


@dataclasses.dataclass(frozen=True)
class Series:
  """One method's line or markers, with a band or whiskers where known.

  Attributes:
    tag: beside its only marker, and before its name in the legend.
  """

  label: str
  x: tuple[float, ...]
  y: tuple[float, ...]
  low: tuple[float, ...] = ()
  high: tuple[float, ...] = ()
  look: str = LINE
  tag: str = ""


@dataclasses.dataclass(frozen=True)
class Lines:
  """A panel of series over a common x.

  Attributes:
    y_limits: what is shown; () all.
    ticks: on the x-axis; () as the axis likes.
    worse: which edge, "top" or "bottom", stands for no result.
  """

  title: str
  x_label: str
  series: tuple[Series, ...]
  y_label: str = ""
  log_x: bool = False
  y_limits: tuple[float, ...] = ()
  ticks: tuple[float, ...] = ()
  worse: str = "top"


@dataclasses.dataclass(frozen=True)
class Whisker:
  """A mean with its interval and the values that it is of."""

  label: str
  mean: float | None
  low: float | None = None
  high: float | None = None
  values: tuple[float, ...] = ()
  word: str = ""  # In place of a mean.
  mark: str = ""  # After the name.
  hollow: bool = False  # A marker that is not filled.


@dataclasses.dataclass(frozen=True)
class Band:
  """A grey band around 0, and what the legend calls it."""

  half_width: float
  label: str


@dataclasses.dataclass(frozen=True)
class Whiskers:
  """A panel of a row per method.

  Attributes:
    zero: whether 0 is marked.
    band: around 0.
  """

  title: str
  x_label: str
  rows: tuple[Whisker, ...]
  zero: bool = False
  band: Band | None = None


@dataclasses.dataclass(frozen=True)
class Bars:
  """A panel of two shares per method, filled and hatched."""

  title: str
  x_label: str
  rows: tuple[tuple[str, float, float], ...]
  hatched: bool


Panel = Lines | Whiskers | Bars


@dataclasses.dataclass(frozen=True)
class Figure:
  """A figure: file stem, title, what it shows, panels, styles by label."""

  name: str
  title: str
  caption: str
  panels: tuple[Panel, ...]
  styles: Mapping[str, Style]

  @property
  def labels(self) -> tuple[str, ...]:
    """Methods that have a series, in the plan's order."""
    found = {series.label for series in self.series}
    return tuple(label for label in self.styles if label in found)

  @property
  def series(self) -> tuple[Series, ...]:
    """Those of all panels of lines."""
    panels = (panel for panel in self.panels if isinstance(panel, Lines))
    return tuple(series for panel in panels for series in panel.series)

  @property
  def tags(self) -> dict[str, str]:
    """By label; "" of a method without one."""
    return {series.label: series.tag for series in self.series}

  @functools.cached_property
  def digest(self) -> str:
    """Of all that is drawn."""
    text = json.dumps(dataclasses.asdict(self))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def styles(sweep: SweepRecord) -> dict[str, Style]:
  """A style per method, by label.

  Where the methods are a grid of two options, as norm × optimizer, colour
  tells the first and line and marker the second; else both go in cycles.
  """
  if sweep.rungs is not None:
    return _rung_styles(sweep)
  overrides = [m.overrides for m in sweep.methods]
  keys = list(dict.fromkeys(key for o in overrides for key in o))
  codes = {key: _codes([str(o.get(key)) for o in overrides]) for key in keys}
  varying = [key for key in keys if max(codes[key]) > 0]
  pairs = [(i % len(COLORS), i // len(COLORS)) for i in range(len(overrides))]
  if len(varying) == 2:
    grid = list(zip(codes[varying[0]], codes[varying[1]], strict=True))
    fits = max(a for a, _ in grid) < len(COLORS) and max(
      b for _, b in grid
    ) < len(DASHES)
    if fits and len(set(grid)) == len(grid):
      pairs = grid
  return {
    method.label: Style(
      COLORS[a], DASHES[b % len(DASHES)], MARKERS[b % len(MARKERS)]
    )
    for method, (a, b) in zip(sweep.methods, pairs, strict=True)
  }


def _rung_styles(sweep: SweepRecord) -> dict[str, Style]:
  """Of a ladder: colour and marker tell the method, the line the size."""
  rungs = sweep.rungs
  found = {}
  for method in sweep.methods:
    rung = rungs.rows[method.label]
    color = rungs.methods.index(rung.method)
    dash = rungs.sizes.index(rung.size)
    found[method.label] = Style(
      COLORS[color % len(COLORS)],
      DASHES[dash % len(DASHES)],
      MARKERS[color % len(MARKERS)],
    )
  return found


def _codes(values: Sequence[str]) -> list[int]:
  """Each value's place among the distinct ones."""
  places = {value: i for i, value in enumerate(dict.fromkeys(values))}
  return [places[value] for value in values]


def name(text: str) -> str:
  """A user's name as a figure shows it: one line that leaves room to draw."""
  text = escape.plain(text)
  if len(text) <= MAX_NAME:
    return text
  return f"{text[: MAX_NAME - 20]}…{text[-19:]}"


def thinned[T](items: Sequence[T]) -> Sequence[T]:
  """At most about `MAX_POINTS` of the items: each nth, and the last."""
  stride = -(-len(items) // MAX_POINTS)
  if stride <= 1:
    return items
  kept = list(items[::stride])
  return kept if (len(items) - 1) % stride == 0 else [*kept, items[-1]]
