"""Mean with interval per method, and its paired difference."""

from collections.abc import Sequence

from normjax.report import stats
from normjax.report.figure import Figure, Whisker, Whiskers, name, styles
from normjax.report.load import SweepRecord


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
    panels.append(
      Whiskers(
        f"Paired difference, 95%: better is {better} of 0",
        f"difference to {name(str(sweep.baseline_name))}",
        tuple(_difference(row) for row in order),
        zero=True,
      )
    )
    caption += (
      " On the right, the difference over common seeds: where its whisker"
      " crosses 0, the method cannot be told from the baseline."
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
  return Whisker(row.label, interval.mean, interval.low, interval.high)
