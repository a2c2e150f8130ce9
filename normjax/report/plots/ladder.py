"""The speed-up over the size, and the loss over the budget at each size."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from normjax.report.figure import (
  COLORS,
  DASHES,
  MARKERS,
  POINTS,
  Figure,
  Lines,
  Series,
  Style,
  name,
)
from normjax.report.ladder import Ladder, Speedup
from normjax.report.load import SweepRecord
from normjax.report.plots.intervals import metric_label

# Methods at one size stand side by side: the log distance of neighbours, as a
# part of that of neighbouring sizes.
_ASIDE = 0.06
_CURVE_POINTS = 40
# Above the highest speed-up, times.
_ROOM = 1.7


def build(sweep: SweepRecord, ladder: Ladder) -> list[Figure]:
  """Both figures, as far as there are numbers."""
  found = [_speedups(sweep, ladder), _losses(sweep, ladder)]
  return [figure for figure in found if figure is not None]


def _styles(sweep: SweepRecord) -> dict[str, Style]:
  """A style per method; sizes are panels or places."""
  return {
    method: Style(
      COLORS[i % len(COLORS)],
      DASHES[i // len(COLORS) % len(DASHES)],
      MARKERS[i % len(MARKERS)],
    )
    for i, method in enumerate(sweep.rungs.methods)
  }


def _speedups(sweep: SweepRecord, ladder: Ladder) -> Figure | None:
  known = [s for s in ladder.speedups if s.log and s.num_params]
  if not known:
    return None
  unit, word = (
    (1e6, "millions")
    if max(s.num_params for s in known) >= 1e6
    else (1e3, "thousands")
  )
  every = {s.num_params for s in ladder.speedups if s.num_params}
  params = sorted(count / unit for count in every)
  gap = min([b / a for a, b in itertools.pairwise(params)] or [2.0])
  methods = [trend.method for trend in ladder.trends]
  series = [
    Series(ladder.baseline, (params[0] / 1.2, params[-1] * 1.2), (1.0, 1.0))
  ]
  for place, method in enumerate(methods):
    own = [s for s in known if s.method == method]
    if not own:
      continue
    aside = gap ** (_ASIDE * (place - (len(methods) - 1) / 2))
    xs = tuple(s.num_params / unit * aside for s in own)
    ys = tuple(math.exp(s.log.value) for s in own)
    series.append(Series(method, xs, ys))
    series += [_point(method, x, s) for x, s in zip(xs, own, strict=True)]
  # A wide interval must not flatten the rest.
  top = _ROOM * max(y for one in series for y in one.y)
  ends = [end for one in series for end in (*one.y, *one.low, *one.high)]
  panel = Lines(
    "",
    f"{word} of parameters, embeddings included",
    tuple(series),
    f"speed-up over {name(ladder.baseline)}",
    log_x=True,
    y_limits=_limits([min(end, top) for end in ends]),
    ticks=tuple(params),
  )
  caption = (
    f"How many times the {sweep.rungs.unit} {ladder.baseline} needs for the"
    " same loss: the geometric mean over the budgets, with its 95% bootstrap"
    " t-interval over seeds. The methods of one size stand side by side."
  )
  if max(ends) > top:
    caption += " An interval that leaves the axes goes on."
  return Figure(
    "ladder_speedup", "Speed-up by size", caption, (panel,), _styles(sweep)
  )


def _point(method: str, x: float, each: Speedup) -> Series:
  if each.log.low is None:
    return Series(method, (x,), (math.exp(each.log.value),), look=POINTS)
  low, value, high = (
    math.exp(end) for end in (each.log.low, each.log.value, each.log.high)
  )
  return Series(method, (x,), (value,), (low,), (high,), POINTS)


def _losses(sweep: SweepRecord, ladder: Ladder) -> Figure | None:
  """A panel per size: seeds' means and ranges, and the fitted curves."""
  budgets = sweep.rungs.all_budgets
  limits = _limits(
    [y for s in ladder.speedups for y in s.losses.values() if y is not None]
  )
  panels = []
  for size in sweep.rungs.sizes:
    series: list[Series] = []
    for each in ladder.speedups:
      if each.size == size:
        series += _budgets(sweep, each)
    if series:
      panels.append(
        Lines(
          f"size {name(size)}",
          f"training budget, {sweep.rungs.unit}",
          tuple(series),
          metric_label(sweep),
          log_x=True,
          y_limits=limits,
          ticks=tuple(map(float, budgets)),
        )
      )
  if not panels:
    return None
  return Figure(
    "ladder_loss",
    "Loss by budget and size",
    "Markers are means over seeds, with the lowest and the highest; each is a"
    " run of its own, whose schedule ends there. Lines are the fitted curves"
    " E + B D^-beta.",
    tuple(panels),
    _styles(sweep),
  )


def _limits(values: Sequence[float]) -> tuple[float, ...]:
  """A y-axis that shows all values."""
  if not values:
    return ()
  margin = 0.06 * (max(values) - min(values)) or 0.1
  return (min(values) - margin, max(values) + margin)


def _budgets(sweep: SweepRecord, each: Speedup) -> list[Series]:
  series = []
  if each.exponent is not None:
    x = np.geomspace(min(each.losses), max(each.losses), _CURVE_POINTS)
    y = each.curve.losses(x)[0]
    series.append(Series(each.method, tuple(x.tolist()), tuple(y.tolist())))
  for budget in each.losses:
    row = sweep.rungs.row(each.method, each.size, budget)
    values = [run.metric(sweep.metric) for run in sweep.finals(row)]
    known = [value for value in values if value is not None]
    if each.losses[budget] is not None:
      series.append(
        Series(
          each.method, (float(budget),), (each.losses[budget],), (min(known),),
          (max(known),), POINTS,
        )
      )  # fmt: skip
  return series
