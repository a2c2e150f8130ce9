"""Mean with interval per method, and its paired difference."""

from collections.abc import Sequence

from normjax.report import stats, verdicts
from normjax.report.figure import (
  Band,
  Figure,
  Whisker,
  Whiskers,
  name,
  styles,
)
from normjax.report.load import SweepRecord
from normjax.statistics.noise import LEAST_SEEDS, noise_floor


def metric_label(sweep: SweepRecord) -> str:
  """Name of the metric and which way is better."""
  better = "lower" if sweep.mode == "min" else "higher"
  return f"{name(sweep.metric)} ({better} is better)"


def ranked(sweep: SweepRecord, rows: Sequence[stats.Row]) -> list[stats.Row]:
  """The rows with the best mean first and those without one last."""
  sign = 1 if sweep.mode == "min" else -1
  return sorted(
    rows, key=lambda r: (r.interval.n == 0, sign * (r.interval.mean or 0))
  )


def build(sweep: SweepRecord, rows: Sequence[stats.Row]) -> list[Figure]:
  """The forest plot, where a method has a result."""
  if not any(row.interval.n for row in rows):
    return []
  order = ranked(sweep, rows)
  panels = [
    Whiskers(
      "Mean, 95% t-interval and seeds",
      metric_label(sweep),
      tuple(_mean(row) for row in order),
    )
  ]
  caption = (
    "Best mean at the top. Whiskers are 95% t-intervals over seeds, thin"
    " strokes the seeds themselves."
  )
  if any(r.difference and r.difference.interval.n for r in rows):
    better = "left" if sweep.mode == "min" else "right"
    band, said = _noise_floor(sweep, rows)
    panels.append(
      Whiskers(
        f"Paired difference, unadjusted 95%: better is {better} of 0",
        f"difference to {name(str(sweep.baseline_name))}",
        tuple(_difference(row) for row in order),
        zero=True,
        band=band,
      )
    )
    caption += (
      " On the right, the difference over common seeds with its unadjusted"
      " interval. A full marker is better or worse after the adjustment for the"
      f" number of comparisons, a hollow one is not. {said}"
    )
  if any(r.diverged and r.interval.n for r in rows):
    caption += " † Survivors only: some seeds diverged."
  return [
    Figure(
      "intervals", "Metric by method", caption, tuple(panels), styles(sweep)
    )
  ]


def _mean(row: stats.Row) -> Whisker:
  word = "diverged" if row.diverged else "no result yet"
  return Whisker(
    row.label,
    row.interval.mean,
    row.interval.low,
    row.interval.high,
    tuple(row.values.values()),
    "" if row.interval.n else word,
    " †" if row.diverged and row.interval.n else "",
  )


def _difference(row: stats.Row) -> Whisker:
  if not row.difference:
    return Whisker(row.label, None)
  interval = row.difference.interval
  return Whisker(
    row.label,
    interval.mean,
    interval.low,
    interval.high,
    hollow=row.verdict not in (verdicts.BETTER, verdicts.WORSE),
  )


def _noise_floor(
  sweep: SweepRecord, rows: Sequence[stats.Row]
) -> tuple[Band | None, str]:
  """How far the baseline is from itself, and what a caption says of it."""
  baseline = next(row for row in rows if row.label == sweep.baseline)
  floor = noise_floor(list(baseline.values.values()))
  if baseline.diverged or floor is None:
    why = (
      "some of the baseline's diverged"
      if baseline.diverged
      else f"it takes {LEAST_SEEDS} seeds of the baseline, there are"
      f" {len(baseline.values)}"
    )
    return None, f"No noise floor is drawn: {why}."
  return Band(floor.half_width, "noise floor: baseline against itself"), (
    "The grey band is the noise floor: differences of the baseline to itself,"
    f" between disjoint sets of its seeds ({floor.num_splits} ways to take two"
    f" sets of {floor.size}), scaled to {floor.n} seeds per side; 95% of them"
    f" lie within ±{floor.half_width:.2g}. It is a mark to see sizes by, and no"
    " verdict: seeds are not paired in it."
  )
