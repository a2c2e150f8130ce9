"""The metric against each tuned value, over the tuning runs."""

from collections.abc import Sequence

import numpy as np

from normjax import escape
from normjax.record.comparison import short_names
from normjax.record.directory import RunState
from normjax.report import stats
from normjax.report.figure import (
  CHOSEN,
  LOST,
  TRIALS,
  Figure,
  Lines,
  Series,
  name,
  styles,
)
from normjax.report.load import SweepRecord
from normjax.report.plots import axis
from normjax.report.plots.intervals import metric_label


def build(sweep: SweepRecord, rows: Sequence[stats.Row]) -> list[Figure]:
  """A figure per tuned key."""
  del rows
  return [f for key in sweep.tuned_keys for f in _figure(sweep, key)]


def _figure(sweep: SweepRecord, key: str) -> list[Figure]:
  """The best over the other tuned values."""
  points, lost = _tried(sweep, key)
  every = [v for own in points.values() for v in own.values()]
  if not every:
    return []
  series = []
  for method in sweep.methods:
    label = method.label
    own = points.get(label, {})
    xs = sorted(own)
    series.append(
      Series(label, tuple(xs), tuple(own[x] for x in xs), look=TRIALS)
    )
    chosen = sorted({x for x in method.chosen(key) if x in own})
    if chosen:
      ys = tuple(own[x] for x in chosen)
      series.append(Series(label, tuple(chosen), ys, look=CHOSEN))
    if xs := sorted(lost.get(label, set()) - set(own)):
      series.append(Series(label, tuple(xs), (), look=LOST))
  limits, cut = axis.focus(every, sweep.mode)
  tried = sorted({x for own in (*points.values(), *lost.values()) for x in own})
  short = short_names(sweep.tuned_keys)[key]
  panel = Lines(
    "",
    name(short),
    tuple(s for s in series if s.x),
    metric_label(sweep),
    log_x=tried[0] > 0 and tried[-1] / tried[0] >= 10,
    y_limits=limits,
    # More ticks than about a dozen would overlap.
    ticks=tuple(tried[:: max(1, -(-len(tried) // 12))]),
    worse="top" if sweep.mode == "min" else "bottom",
  )
  caption = "Tuning runs; the chosen value is circled."
  if len(sweep.tunings) > 1:
    caption = (
      "Tuning runs, the mean over the final seeds whose tuning tried the value;"
      " values that some seed chose are circled."
    )
  if len(sweep.tuned_keys) > 1:
    caption += " Each point is the best over the other tuned values."
  if any(lost.values()):
    caption += " × at the edge: every run with that value diverged."
  if cut:
    caption += " Values far from the best lie outside the axes."
  return [
    Figure(
      escape.file_name(f"sensitivity_{short.replace('.', '_')}"),
      f"Sensitivity to {escape.plain(short).replace('_', ' ')}",
      caption,
      (panel,),
      styles(sweep),
    )
  ]


def _tried(
  sweep: SweepRecord, key: str
) -> tuple[dict[str, dict[float, float]], dict[str, set[float]]]:
  """Metric by method and value, and the values that diverged.

  It is the best over the other values of one tuning, and the mean over tunings.
  """
  best = min if sweep.mode == "min" else max
  points: dict[str, dict[float, dict[int | None, float]]] = {}
  lost: dict[str, set[float]] = {}
  for run in (r for m in sweep.methods for r in sweep.trials(m.label)):
    x = run.overrides.get(key)
    if isinstance(x, bool) or not isinstance(x, int | float):
      continue
    value = run.metric(sweep.metric)
    own = points.setdefault(run.method, {})
    if value is not None:
      tuned = own.setdefault(x, {})
      tuned[run.for_seed] = best(value, tuned.get(run.for_seed, value))
    elif run.state is RunState.DIVERGED:
      lost.setdefault(run.method, set()).add(x)
  means = {
    label: {x: float(np.mean([*own[x].values()])) for x in own}
    for label, own in points.items()
  }
  return means, lost
