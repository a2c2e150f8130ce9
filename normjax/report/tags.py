"""Short texts beside markers, where they hide nothing."""

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

from matplotlib.axes import Axes

from normjax.report import figure as fig

_PT_PER_IN = 72
# Of a digit, as a part of the size of the type; a box has a little room.
_WIDE, _HIGH = 0.68, 1.2
# Half of a marker, as a part of the same.
_MARKER = 0.4
# How far a text is from its marker, likewise, the first first.
_AWAY = (1.0, 1.6, 2.4, 3.4, 4.6)
_FAR = 1.5  # From here on a line leads to it.
# How often each is put where it fits the others best, and how much worse it is
# to cover another text than to cover a marker.
_PASSES = 3
_OF_TEXT = 5
# Right above comes first, as on maps.
_DIRECTIONS = (45, 135, 315, 225, 90, 0, 180, 270, 22, 67, 157, 202, 292, 337)


class _Box(NamedTuple):
  """A rectangle, in points."""

  left: float
  low: float
  right: float
  high: float

  def shared(self, other: "_Box") -> float:
    """The area that both cover."""
    width = min(self.right, other.right) - max(self.left, other.left)
    height = min(self.high, other.high) - max(self.low, other.low)
    return max(width, 0) * max(height, 0)


class _Place(NamedTuple):
  """Where a text may be: how far, its offset and what it covers, in points."""

  away: float
  offset: tuple[float, float]
  box: _Box


def place(ax: Axes, panel: fig.Panel, font_pt: float) -> None:
  """Writes the tags of a panel's series.

  Each goes where it covers least of the markers, the intervals and the other
  tags.

  Args:
    ax: with its final size and limits.
    panel: drawn there.
    font_pt: size of the type.
  """
  tagged = [
    each for each in getattr(panel, "series", ()) if each.tag and each.x
  ]
  markers = [box for each in tagged for box in _covered(ax, each, font_pt)]
  inside = _inside(ax)
  chosen: dict[int, _Place] = {}
  for n, each in [*enumerate(tagged)] * _PASSES:
    at = _points(ax, each.x[0], each.y[0])
    size = _WIDE * font_pt * len(each.tag), _HIGH * font_pt
    others = [place.box for m, place in chosen.items() if m != n]

    def cost(place, others=others):
      found = _cost(place.box, markers, inside)
      return found + _OF_TEXT * sum(place.box.shared(box) for box in others)

    chosen[n] = min(_places(at, size, font_pt), key=cost)
  for n, each in enumerate(tagged):
    line = {"arrowstyle": "-", "linewidth": 0.5, "color": fig.INK, "shrinkB": 3}
    note = ax.annotate(
      each.tag,
      (each.x[0], each.y[0]),
      chosen[n].offset,
      textcoords="offset points",
      fontsize=font_pt,
      ha="center",
      va="center",
      arrowprops=line if chosen[n].away > _FAR else None,
    )
    note.set_in_layout(False)


def _places(
  at: tuple[float, float], size: tuple[float, float], font_pt: float
) -> Iterator[_Place]:
  """All places of a text, the best first."""
  for away, degrees in itertools.product(_AWAY, _DIRECTIONS):
    radius, angle = away * font_pt, math.radians(degrees)
    # Long texts go further aside.
    aside = radius + (size[0] - size[1]) / 2
    offset = aside * math.cos(angle), radius * math.sin(angle)
    x, y = at[0] + offset[0], at[1] + offset[1]
    half = size[0] / 2, size[1] / 2
    box = _Box(x - half[0], y - half[1], x + half[0], y + half[1])
    yield _Place(away, offset, box)


def _cost(box: _Box, markers: list[_Box], inside: _Box) -> float:
  """Area of markers that a text hides, and of it outside of the axes."""
  area = (box.right - box.left) * (box.high - box.low)
  return area - box.shared(inside) + sum(box.shared(each) for each in markers)


def _covered(ax: Axes, series: fig.Series, font_pt: float) -> Iterator[_Box]:
  """What a series' marker and interval cover."""
  half = _MARKER * font_pt
  x, y = _points(ax, series.x[0], series.y[0])
  yield _Box(x - half, y - half, x + half, y + half)
  if series.low and series.high:
    low, high = (_points(ax, series.x[0], y)[1] for y in _ends(series))
    yield _Box(x - half / 4, low, x + half / 4, high)


def _ends(series: fig.Series) -> tuple[float, float]:
  return series.low[0], series.high[0]


def _points(ax: Axes, x: float, y: float) -> tuple[float, float]:
  """Where a value is on the canvas, in points."""
  scale = _PT_PER_IN / ax.figure.dpi
  across, up = ax.transData.transform((x, y))
  return scale * across, scale * up


def _inside(ax: Axes) -> _Box:
  scale = _PT_PER_IN / ax.figure.dpi
  found = ax.get_window_extent()
  return _Box(*(scale * end for end in found.extents))
