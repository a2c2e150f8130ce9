"""The metric against the bytes of the optimizer's state."""

from collections.abc import Sequence

from normjax.report import stats
from normjax.report.figure import POINTS, Figure, Lines, Series, styles
from normjax.report.load import SweepRecord
from normjax.report.plots.intervals import metric_label


def build(sweep: SweepRecord, rows: Sequence[stats.Row]) -> list[Figure]:
  """A point per method, where methods differ in the size of their state."""
  known = [
    row
    for row in rows
    if row.interval.n and row.optimizer_state_bytes is not None
  ]
  sizes = {row.optimizer_state_bytes for row in known}
  if len(sizes) < 2:
    return []
  series = tuple(
    Series(
      row.label,
      (row.optimizer_state_bytes / 1e6,),
      (row.interval.mean,),
      () if row.interval.low is None else (row.interval.low,),
      () if row.interval.high is None else (row.interval.high,),
      look=POINTS,
    )
    for row in known
  )
  panel = Lines(
    "",
    "optimizer state, MB",
    series,
    metric_label(sweep),
    log_x=min(sizes) > 0 and max(sizes) >= 10 * min(sizes),
  )
  caption = (
    "A marker per method: mean over seeds, with its 95% t-interval, against"
    " the measured bytes of the optimizer's state (1 MB is 10^6 bytes)."
  )
  return [
    Figure(
      "state_bytes",
      "Metric against optimizer state",
      caption,
      (panel,),
      styles(sweep),
    )
  ]
