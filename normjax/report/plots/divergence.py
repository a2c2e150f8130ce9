"""Share of runs that diverged, in the final runs and in tuning."""

from collections.abc import Sequence

from normjax.report import stats
from normjax.report.figure import Bars, Figure, styles
from normjax.report.load import SweepRecord


def build(sweep: SweepRecord, rows: Sequence[stats.Row]) -> list[Figure]:
  """Two bars per method, where a run diverged."""
  shares = {}
  for row in rows:
    over = [t for t in sweep.trials(row.label) if t.state.over]
    final = len(row.diverged) / row.over if row.over else 0
    tune = row.trials_diverged / len(over) if over else 0
    shares[row.label] = (100 * final, 100 * tune)
  shown = [row for row in rows if any(shares[row.label])]
  if not shown:
    return []
  tuning = any(row.trials for row in rows)
  panel = Bars(
    "",
    "runs that diverged, %",
    tuple((row.label, *shares[row.label]) for row in shown),
    tuning,
  )
  caption = "Share of the runs that ended which diverged."
  if len(shown) < len(rows):
    caption += f" No run of the other {len(rows) - len(shown)} methods did."
  if tuning:
    caption += " Filled: final runs. Hatched: tuning runs, at all tried values."
  return [Figure("divergence", "Divergence", caption, (panel,), styles(sweep))]
