"""Training loss and the metric by step and by time, with a band over seeds."""

from collections.abc import Mapping, Sequence

import numpy as np

from normjax.record import target
from normjax.record.directory import RunState
from normjax.report import stats
from normjax.report.figure import (
  DIVERGED,
  MAX_POINTS,
  Figure,
  Lines,
  Series,
  name,
  styles,
  thinned,
)
from normjax.report.load import Run, SweepRecord

# The start of training would leave no room for the rest.
_SETTLED = 0.2
# The bands of more methods than this would hide each other.
_MAX_BANDS = 12


def by_step(sweep: SweepRecord, rows: Sequence[stats.Row]) -> list[Figure]:
  """Against the step."""
  del rows
  return _figure(sweep, "step", "curves", "Loss curves")


def by_time(sweep: SweepRecord, rows: Sequence[stats.Row]) -> list[Figure]:
  """Against the seconds of training that the runs recorded."""
  del rows
  return _figure(sweep, "time_s", "time", "Loss against time")


_X_LABELS = {
  "step": "step",
  "time_s": "training time, s",
}


def _figure(
  sweep: SweepRecord, x_key: str, stem: str, title: str
) -> list[Figure]:
  kind, _, metric = target.measured(sweep.metric).partition("/")
  banded = len(sweep.methods) <= _MAX_BANDS
  panels, cut, thin = [], False, False
  for panel in dict.fromkeys([("train", "loss"), (kind, metric)]):
    series, limits = [], []
    for method in sweep.methods:
      finals = sweep.finals(method.label)
      thin |= any(len(run.curve(*panel)) > MAX_POINTS for run in finals)
      lines, kept = _lines(method.label, finals, panel, x_key, banded)
      series += lines
      limits += kept
    if not series:
      continue
    shown = _limits(limits)
    cut |= _lies_outside(series, shown)
    heading = name(f"{panel[0]} {panel[1]}".replace("_", " "))
    panels.append(
      Lines(heading, _X_LABELS[x_key], tuple(series), y_limits=shown)
    )
  if not panels:
    return []
  caption = "Lines are means over seeds"
  if banded:
    caption += ", bands run from the lowest seed to the highest"
  caption += "."
  if x_key == "time_s":
    caption += (
      " Time is of training alone, without compilation and evaluation, on"
      " whatever machine the run was: compare where provenance is alike."
    )
  if thin:
    caption += f" Of a line with more, about {MAX_POINTS} points are drawn."
  if cut:
    caption += " The axes are cut to what follows the first fifth of training."
  if any(s.look == DIVERGED for panel in panels for s in panel.series):
    caption += " Thin lines that end in × are seeds that diverged."
  return [Figure(stem, title, caption, tuple(panels), styles(sweep))]


def _lines(
  label: str,
  runs: Sequence[Run],
  panel: tuple[str, str],
  x_key: str,
  banded: bool,
) -> tuple[list[Series], list[float]]:
  """A method's mean and its diverged seeds, and what must stay visible.

  Seeds that are still running are shown only while no seed is done: a mean
  over changing seeds would jump.
  """
  curves = [
    (run, curve, run.curve(panel[0], x_key))
    for run in runs
    if (curve := run.curve(*panel))
  ]
  done = [c for c in curves if c[0].state is RunState.DONE]
  chosen = done or [c for c in curves if c[0].state is not RunState.DIVERGED]
  series, limits = [], []
  if chosen:
    mean, limits = _mean(label, chosen, banded)
    series += mean
  for run, curve, xs in curves:
    if run.state is RunState.DIVERGED:
      steps = thinned(sorted(curve.keys() & xs.keys()))
      if steps:
        x = tuple(float(xs[s]) for s in steps)
        y = tuple(curve[s] for s in steps)
        series.append(Series(label, x, y, look=DIVERGED))
  return series, limits


def _mean(
  label: str,
  chosen: Sequence[tuple[Run, Mapping[int, float], Mapping[int, float]]],
  banded: bool,
) -> tuple[list[Series], list[float]]:
  steps = sorted(
    set.intersection(*({*curve} & {*xs} for _, curve, xs in chosen))
  )
  if not steps:
    return [], []
  steps = thinned(steps)
  x = np.mean([[xs[s] for s in steps] for _, _, xs in chosen], axis=0)
  values = np.array([[curve[s] for s in steps] for _, curve, _ in chosen])
  low, high = values.min(axis=0), values.max(axis=0)
  band = (_floats(low), _floats(high)) if banded and len(chosen) > 1 else ()
  settled = np.array(steps) >= _SETTLED * steps[-1]
  return (
    [Series(label, _floats(x), _floats(values.mean(axis=0)), *band)],
    [*low[settled], *high[settled]],
  )


def _floats(values: np.ndarray) -> tuple[float, ...]:
  return tuple(map(float, values))


def _limits(values: Sequence[float]) -> tuple[float, ...]:
  """What the y-axis shows."""
  if not values:
    return ()
  low, high = float(min(values)), float(max(values))
  margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
  return low - margin, high + margin


def _lies_outside(series: Sequence[Series], limits: tuple[float, ...]) -> bool:
  values = [v for s in series for v in (*s.y, *s.low, *s.high)]
  return bool(limits) and (min(values) < limits[0] or max(values) > limits[1])
