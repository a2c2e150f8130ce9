"""The metric against what a step takes at a real size, and against time."""

from collections.abc import Callable, Sequence

from normjax.report import stats
from normjax.report.figure import (
  COLORS,
  FAINT,
  LINE,
  LOST,
  POINTS,
  Figure,
  Lines,
  Series,
  Style,
  name,
  styles,
)
from normjax.report.load import SweepRecord
from normjax.report.plots import axis
from normjax.report.plots.intervals import metric_label

# In the legend; no method has this name.
_FRONT = "(no mean better in both)"
_STYLE = Style(COLORS[-1], (4, 2), "")
_LEAST = 2
# Of the axis, to a cross at its edge.
_INSET = 0.02


def build(sweep: SweepRecord, rows: Sequence[stats.Row]) -> list[Figure]:
  """Both panels, of a sweep that has costs of two methods or more."""
  costs = sweep.costs
  if costs is None:
    return []
  known = [row for row in rows if row.interval.n and row.label in costs.methods]
  if len(known) < _LEAST:
    return []
  tags = {row.label: str(place) for place, row in enumerate(rows, start=1)}

  panels = [
    _panel(
      sweep,
      known,
      tags,
      lambda row: costs.methods[row.label].peak_bytes / 1e6,
      f"memory, {costs.model}",
      f"peak of a step compiled for {costs.target}, MB",
    ),
    _panel(
      sweep,
      known,
      tags,
      lambda row: costs.methods[row.label].lasting_bytes / 1e6,
      f"the same without activations, {costs.model}",
      "parameters, state, gradients, MB",
    ),
  ]
  own = {row.label: row.train_s for row in rows}
  base_s = own.get(sweep.baseline or "")
  timed = [row for row in known if row.train_s]
  said = "Time: no training time of the baseline is known, so none is drawn."
  if base_s and len(timed) >= _LEAST:
    panels.append(
      _panel(
        sweep,
        timed,
        tags,
        lambda row: (row.train_s or 0.0) / base_s,
        "time, the models of the metric",
        f"training time / {name(str(sweep.baseline))}",
      )
    )
    said = (
      "Time is train s of the table over the baseline's: of the small models,"
      " where they ran."
    )
  caption = [_caption(sweep), said, *_beyond(panels), *_absent(sweep, rows)]
  return [
    Figure(
      "pareto",
      "Metric against memory and time",
      " ".join(caption),
      tuple(panels),
      {_FRONT: _STYLE, **styles(sweep)},
    )
  ]


def _panel(
  sweep: SweepRecord,
  rows: Sequence[stats.Row],
  tags: dict[str, str],
  x_of: Callable[[stats.Row], float],
  title: str,
  x_label: str,
) -> Lines:
  points = {row.label: (x_of(row), row.interval.mean) for row in rows}
  whole = {row.label for row in rows if not row.diverged}
  best = front({k: v for k, v in points.items() if k in whole}, sweep.mode)
  ends = [x for x, _ in points.values()]
  series = [_stairs([points[label] for label in best], max(ends))]
  limits, cut = axis.focus([y for _, y in points.values()], sweep.mode)
  inset = _INSET * (limits[1] - limits[0])
  for row in rows:
    x, y = points[row.label]
    low, high = row.interval.low, row.interval.high
    look, bars = (POINTS if row.label in best else FAINT), ()
    if not limits[0] <= y <= limits[1]:
      at_edge = limits[0] + inset if y < limits[0] else limits[1] - inset
      look, y = LOST, at_edge  # Its number stands beside it.
    elif low is not None and high is not None:
      bars = (low,), (high,)
    series.append(
      Series(row.label, (x,), (y,), *bars, look=look, tag=tags[row.label])
    )
  return Lines(
    title,
    x_label,
    tuple(each for each in series if each.x),
    metric_label(sweep),
    log_x=max(ends) >= 10 * min(ends) > 0,
    y_limits=limits if cut else (),
    worse="top" if sweep.mode == "min" else "bottom",
  )


def front(
  points: dict[str, tuple[float, float]], mode: str
) -> dict[str, tuple[float, float]]:
  """The points that no other is better than in one number and as good in both.

  Args:
    points: x and y by name; less of x is better.
    mode: "min" or "max", of y.

  Returns:
    Those, from the least x on.
  """
  sign = 1 if mode == "min" else -1
  found: dict[str, tuple[float, float]] = {}
  best = float("inf")
  for label, (x, y) in sorted(
    points.items(), key=lambda each: (each[1][0], sign * each[1][1])
  ):
    equal = bool(found) and (x, y) == [*found.values()][-1]
    if sign * y < best or equal:
      found[label] = (x, y)
      best = sign * y
  return found


def _stairs(points: Sequence[tuple[float, float]], end: float) -> Series:
  """From each point to the right, as far as the next, and then to it."""
  xs: list[float] = []
  ys: list[float] = []
  for x, y in points:
    if xs:
      xs.append(x)
      ys.append(ys[-1])
    xs.append(x)
    ys.append(y)
  if xs:
    xs.append(end)
    ys.append(ys[-1])
  return Series(_FRONT, tuple(xs), tuple(ys), look=LINE)


def _caption(sweep: SweepRecord) -> str:
  costs = sweep.costs
  return (
    "A marker per method: mean over seeds, with its 95% t-interval. Memory:"
    f" parameters, state, gradients, activations and workspace of a training"
    f" step of {costs.model}, as its compiler for {costs.target} says; it was"
    " compiled and not run (1 MB is 10^6 bytes). Beside it what of that no"
    " batch changes, each array counted; gradients are those that a step takes,"
    " whether or not they are ever in memory all at once. Full markers, on the"
    " broken line, are those that no other mean is better than in both; hollow"
    " ones are not, or are of survivors. A place on the line is of means alone:"
    " verdicts are in the table. Not shown: the metric of"
    f" {costs.model}, which was not trained here; times on {costs.target};"
    " other sizes, batches and lengths, where states and activations weigh"
    " otherwise."
  )


def _beyond(panels: Sequence[Lines]) -> list[str]:
  """A sentence on the means that lie outside the axes, if any does."""
  if not any(each.look == LOST for panel in panels for each in panel.series):
    return []
  return [
    "× at the edge: a mean more than three times as far from the best as the"
    " middle one; the table has it. An interval that leaves the axes goes on."
  ]


def _absent(sweep: SweepRecord, rows: Sequence[stats.Row]) -> list[str]:
  """A sentence on the methods that are not drawn, if there are any."""
  costs = sweep.costs
  why = {
    row.label: costs.missing.get(row.label, "no bytes")
    for row in rows
    if row.label not in costs.methods
  }
  why |= {
    row.label: "no result"
    for row in rows
    if row.label in costs.methods and not row.interval.n
  }
  if not why:
    return []
  said = "; ".join(
    f"{name(label)}: {name(text)}" for label, text in why.items()
  )
  return [f"Not drawn: {said}."]
