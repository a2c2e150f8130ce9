"""The figures of a report, drawn without matplotlib's global state."""

import dataclasses
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MplFigure
from matplotlib.lines import Line2D

from normjax import escape
from normjax.record import target
from normjax.record.comparison import short_names
from normjax.record.directory import RunState
from normjax.report import stats
from normjax.report.drawing import (
  INK,
  RC,
  Figure,
  Style,
  legend,
  name,
  save,
  styles,
)
from normjax.report.load import Run, SweepRecord

# The start of training would leave no room for the rest.
_SETTLED = 0.2
# The bands of more methods than this would hide each other.
_MAX_BANDS = 12


def draw(sweep: SweepRecord, rows: Sequence[stats.Row]) -> list[Figure]:
  """The figures for which there is data."""
  with matplotlib.rc_context(RC):
    drawn = [
      _forest(sweep, rows),
      _curves(sweep),
      *(_sensitivity(sweep, key) for key in sweep.tuned_keys),
      _divergence(sweep, rows),
    ]
  return _distinct([figure for figure in drawn if figure is not None])


def _distinct(figures: Sequence[Figure]) -> list[Figure]:
  """Figures whose names, which are files', differ."""
  found: dict[str, Figure] = {}
  for figure in figures:
    stem, count = figure.name, 2
    while figure.name in found:
      figure = dataclasses.replace(figure, name=f"{stem}_{count}")
      count += 1
    found[figure.name] = figure
  return list(found.values())


def _forest(sweep: SweepRecord, rows: Sequence[stats.Row]) -> Figure | None:
  """Mean with interval per method, and its paired difference."""
  if not any(row.interval.n for row in rows):
    return None
  sign = 1 if sweep.mode == "min" else -1
  ranked = sorted(
    rows,
    key=lambda r: (r.interval.n == 0, sign * (r.interval.mean or 0)),
  )
  compared = any(r.difference and r.difference.interval.n for r in rows)
  figure = MplFigure(figsize=(10, 1.1 + 0.3 * len(rows)), layout="constrained")
  axes = np.atleast_1d(figure.subplots(1, 2 if compared else 1, sharey=True))
  style = styles(sweep)
  for y, row in enumerate(ranked):
    _whisker(axes[0], y, row.interval, style[row.label])
    axes[0].plot(
      list(row.values.values()), [y] * len(row.values), "|",
      color=style[row.label].color, markersize=9, alpha=0.8,
    )  # fmt: skip
    if not row.interval.n:
      word = "diverged" if row.diverged else "no result yet"
      axes[0].text(
        0.5, y, word, transform=axes[0].get_yaxis_transform(),
        ha="center", va="center", style="italic",
      )  # fmt: skip
    if compared and row.difference:
      _whisker(axes[1], y, row.difference.interval, style[row.label])
  axes[0].set_yticks(range(len(ranked)), [_marked(r) for r in ranked])
  axes[0].set_ylim(len(ranked) - 0.5, -0.5)
  axes[0].set_xlabel(_metric_label(sweep))
  axes[0].set_title("Mean, 95% t-interval and seeds")
  if compared:
    axes[1].axvline(0, color=INK, linewidth=1)
    axes[1].set_xlabel(f"difference to {name(str(sweep.baseline))}")
    better = "left" if sweep.mode == "min" else "right"
    axes[1].set_title(f"Paired difference, 95%: better is {better} of 0")
  for ax in axes:
    ax.locator_params(axis="x", nbins=6)
    ax.grid(axis="y", visible=False)
    ax.tick_params(axis="y", length=0)
  caption = (
    "Best mean at the top. Whiskers are 95% t-intervals over seeds, thin"
    " strokes the seeds themselves."
  )
  if compared:
    caption += (
      " On the right, the difference over common seeds: where its whisker"
      " crosses 0, the method cannot be told from the baseline."
    )
  if any(r.diverged and r.interval.n for r in rows):
    caption += " † Survivors only: some seeds diverged."
  return Figure("intervals", "Metric by method", caption, save(figure))


def _marked(row: stats.Row) -> str:
  return name(row.label) + (" †" if row.diverged and row.interval.n else "")


def _whisker(
  ax: Axes, y: float, interval: stats.Interval, style: Style
) -> None:
  if interval.mean is None:
    return
  half = interval.half_width
  ax.errorbar(
    interval.mean, y, xerr=half, fmt=style.marker, color=style.color,
    capsize=3, markersize=5.5, linewidth=1.6,
  )  # fmt: skip


def _metric_label(sweep: SweepRecord) -> str:
  better = "lower" if sweep.mode == "min" else "higher"
  return f"{name(sweep.metric)} ({better} is better)"


def _curves(sweep: SweepRecord) -> Figure | None:
  """Training loss and the metric by step, a band over seeds."""
  kind, _, metric = target.measured(sweep.metric).partition("/")
  panels = list(dict.fromkeys([("train", "loss"), (kind, metric)]))
  data = {
    (panel, method.label): [
      (run, curve)
      for run in sweep.finals(method.label)
      if (curve := run.curve(*panel))
    ]
    for panel in panels
    for method in sweep.methods
  }
  panels = [p for p in panels if any(data[p, m.label] for m in sweep.methods)]
  if not panels:
    return None
  figure = MplFigure(
    figsize=(10, 4.2 + 0.22 * len(sweep.methods) / 3), layout="constrained"
  )
  all_axes = np.atleast_1d(figure.subplots(1, len(panels)))
  style = styles(sweep)
  cut = diverged = False
  banded = len(sweep.methods) <= _MAX_BANDS
  for ax, panel in zip(all_axes, panels, strict=True):
    limits = []
    for method in sweep.methods:
      curves = data[panel, method.label]
      limits += _band(ax, curves, style[method.label], banded)
      diverged |= _diverged_curves(ax, curves, style[method.label])
    cut |= _limit(ax, limits)
    ax.set_xlabel("step")
    ax.set_title(name(f"{panel[0]} {panel[1]}".replace("_", " ")))
  legend(
    figure,
    [
      Line2D(
        [], [], color=style[m.label].color, linestyle=style[m.label].line,
        linewidth=1.8, label=name(m.label),
      )
      for m in sweep.methods
      if any(data[panel, m.label] for panel in panels)
    ],
  )  # fmt: skip
  caption = "Lines are means over seeds"
  if banded:
    caption += ", bands run from the lowest seed to the highest"
  caption += "."
  if cut:
    caption += " The axes are cut to what follows the first fifth of training."
  if diverged:
    caption += " Thin lines that end in × are seeds that diverged."
  return Figure("curves", "Loss curves", caption, save(figure))


def _band(
  ax: Axes,
  curves: Sequence[tuple[Run, Mapping[int, float]]],
  style: Style,
  banded: bool,
) -> list[float]:
  """Draws mean and range over the seeds; returns what must stay visible.

  Seeds that are still running are shown only while no seed is done: a mean
  over changing seeds would jump.
  """
  done = [curve for run, curve in curves if run.state is RunState.DONE]
  chosen = done or [
    c for run, c in curves if run.state is not RunState.DIVERGED
  ]
  if not chosen:
    return []
  steps = sorted(set.intersection(*(set(curve) for curve in chosen)))
  if not steps:
    return []
  values = np.array([[curve[step] for step in steps] for curve in chosen])
  mean = values.mean(axis=0)
  ax.plot(steps, mean, color=style.color, linestyle=style.line, linewidth=1.4)
  low, high = values.min(axis=0), values.max(axis=0)
  if banded and len(chosen) > 1:
    ax.fill_between(
      steps, low, high, color=style.color, alpha=0.18, linewidth=0
    )
  settled = np.array(steps) >= _SETTLED * steps[-1]
  return [*low[settled], *high[settled]]


def _diverged_curves(
  ax: Axes, curves: Sequence[tuple[Run, Mapping[int, float]]], style: Style
) -> bool:
  drawn = False
  for run, curve in curves:
    if run.state is RunState.DIVERGED:
      steps = sorted(curve)
      ax.plot(
        steps, [curve[s] for s in steps], color=style.color, linewidth=0.9,
        linestyle=style.line, marker="x", markevery=[-1], alpha=0.8,
      )  # fmt: skip
      drawn = True
  return drawn


def _limit(ax: Axes, values: Sequence[float]) -> bool:
  """Fits the y-axis to `values`; says whether something lies outside."""
  if not values:
    return False
  low, high = min(values), max(values)
  margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
  before = ax.get_ylim()
  ax.set_ylim(low - margin, high + margin)
  return before[0] < low - 2 * margin or before[1] > high + 2 * margin


def _sensitivity(sweep: SweepRecord, key: str) -> Figure | None:
  """Metric against one tuned value, the best over the other tuned ones."""
  sign = 1 if sweep.mode == "min" else -1
  points: dict[str, dict[float, float]] = {}
  lost: dict[str, set[float]] = {}
  for run in sweep.runs:
    x = run.overrides.get(key)
    if run.stage != "tune" or isinstance(x, bool):
      continue
    if not isinstance(x, int | float):
      continue
    value = run.metric(sweep.metric)
    own = points.setdefault(run.method, {})
    if value is not None:
      own[x] = sign * min(sign * value, sign * own.get(x, value))
    elif run.state is RunState.DIVERGED:
      lost.setdefault(run.method, set()).add(x)
  every = [v for own in points.values() for v in own.values()]
  if not every:
    return None
  figure = MplFigure(
    figsize=(10, 4.2 + 0.22 * len(points) / 3), layout="constrained"
  )
  ax = figure.subplots()
  style = styles(sweep)
  short = short_names(sweep.tuned_keys)[key]
  for method in sweep.methods:
    own = points.get(method.label, {})
    look = style[method.label]
    xs = sorted(own)
    ax.plot(
      xs, [own[x] for x in xs], color=look.color, linestyle=look.line,
      marker=look.marker, markersize=4.5, linewidth=1.5,
    )  # fmt: skip
    chosen = (method.tuned or {}).get(key)
    if chosen in own:
      ax.plot(
        chosen, own[chosen], "o", color=look.color, markersize=11,
        markerfacecolor="none", markeredgewidth=1.6,
      )  # fmt: skip
    xs = sorted(lost.get(method.label, set()) - set(own))
    edge = 0.98 if sweep.mode == "min" else 0.02
    # An empty line that is not clipped would still take room in the layout.
    if xs:
      ax.plot(
        xs, [edge] * len(xs), "x", color=look.color, markersize=7,
        transform=ax.get_xaxis_transform(), clip_on=False,
      )  # fmt: skip
  xs = sorted({x for own in (*points.values(), *lost.values()) for x in own})
  _value_axis(ax, xs)
  cut = _focus(ax, every, sweep.mode)
  ax.set_xlabel(name(short))
  ax.set_ylabel(_metric_label(sweep))
  legend(
    figure,
    [
      Line2D(
        [], [], color=style[m.label].color, linestyle=style[m.label].line,
        marker=style[m.label].marker, markersize=4.5, label=name(m.label),
      )
      for m in sweep.methods
      if m.label in points
    ],
  )  # fmt: skip
  caption = "Tuning runs; the chosen value is circled."
  if len(sweep.tuned_keys) > 1:
    caption += " Each point is the best over the other tuned values."
  if any(lost.values()):
    caption += " × at the edge: every run with that value diverged."
  if cut:
    caption += " Values far from the best lie outside the axes."
  return Figure(
    escape.file_name(f"sensitivity_{short.replace('.', '_')}"),
    f"Sensitivity to {escape.plain(short).replace('_', ' ')}",
    caption,
    save(figure),
  )


def _value_axis(ax: Axes, xs: Sequence[float]) -> None:
  """Ticks at the values tried; a log axis where they span a decade."""
  if xs[0] > 0 and xs[-1] / xs[0] >= 10:
    ax.set_xscale("log")
    ax.minorticks_off()
  # More ticks than about a dozen would overlap.
  shown = xs[:: max(1, -(-len(xs) // 12))]
  ax.set_xticks(shown, [f"{x:.3g}" for x in shown])


def _focus(ax: Axes, values: Sequence[float], mode: str) -> bool:
  """Cuts off what is so bad that it would flatten the rest."""
  sign = 1 if mode == "min" else -1
  costs = sign * np.array(values)
  best, middle, worst = costs.min(), np.median(costs), costs.max()
  edge = min(worst, best + 3 * (middle - best)) if middle > best else worst
  margin = 0.08 * (edge - best) or 0.05 * abs(best) or 1.0
  ax.set_ylim(*sorted((sign * (best - margin), sign * (edge + margin))))
  return edge < worst


def _divergence(sweep: SweepRecord, rows: Sequence[stats.Row]) -> Figure | None:
  """Share of runs that diverged, in the final runs and in tuning."""
  shares = {}
  for row in rows:
    over = [t for t in sweep.trials(row.label) if t.state.over]
    final = len(row.diverged) / row.over if row.over else 0
    tune = row.trials_diverged / len(over) if over else 0
    shares[row.label] = (final, tune)
  shown = [row for row in rows if any(shares[row.label])]
  if not shown:
    return None
  figure = MplFigure(
    figsize=(10, 1.5 + 0.34 * len(shown)), layout="constrained"
  )
  ax = figure.subplots()
  style = styles(sweep)
  tuning = any(row.trials for row in rows)
  for y, row in enumerate(shown):
    final, tune = shares[row.label]
    look = style[row.label]
    ax.barh(y - 0.18, 100 * final, 0.34, color=look.color)
    if tuning:
      ax.barh(
        y + 0.18, 100 * tune, 0.34, color="none", edgecolor=look.color,
        hatch="////", linewidth=1,
      )  # fmt: skip
  ax.set_yticks(range(len(shown)), [name(row.label) for row in shown])
  ax.set_ylim(len(shown) - 0.5, -0.5)
  ax.set_xlim(0, 100)
  ax.set_xlabel("runs that diverged, %")
  ax.grid(axis="y", visible=False)
  ax.tick_params(axis="y", length=0)
  caption = "Share of the runs that ended which diverged."
  if len(shown) < len(rows):
    caption += f" No run of the other {len(rows) - len(shown)} methods did."
  if tuning:
    caption += " Filled: final runs. Hatched: tuning runs, at all tried values."
  return Figure("divergence", "Divergence", caption, save(figure))
