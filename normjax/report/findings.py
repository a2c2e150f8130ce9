"""The result in sentences: what stands at the head of a report."""

from collections import Counter
from collections.abc import Sequence

from normjax import errors
from normjax.report import arithmetic, samples, stats, verdicts
from normjax.report.load import SweepRecord


def build(sweep: SweepRecord, rows: Sequence[stats.Row]) -> list[str]:
  """The result in sentences, no stronger than the intervals."""
  seeds = verdicts.attainable(sweep)
  sentences = arithmetic.differences(sweep)
  if seeds is not None and not seeds.can_decide:
    sentences.append(str(seeds))
  if sweep.rungs is None:  # Of a ladder the largest model is the best.
    sentences += _best(sweep, rows)
  compared = [row for row in rows if row.difference]
  if compared:
    count = Counter(verdicts.kind(row.verdict) for row in compared)
    noun = "method" if sweep.rungs is None else "row"
    noun += "s" * (len(compared) != 1)
    said = ", ".join(
      f"{count[word]} {word}" for word in verdicts.KINDS if count[word]
    )
    sentences.append(
      f"Compared with {sweep.baseline_name}, of {len(compared)} {noun}: {said}."
    )
    sentences += baseline_diverged(sweep, rows)
    lost = sum(row.verdict != row.verdict_uncorrected for row in compared)
    if lost:
      sentences.append(
        f"Verdicts are adjusted for {len(compared)} comparisons (Holm); {lost}"
        f" more would be decided without that."
      )
  return sentences


def _best(sweep: SweepRecord, rows: Sequence[stats.Row]) -> list[str]:
  """Which method is best, where it is one that can be told from the others."""
  best = verdicts.best(sweep, samples.finals(sweep))
  if best is None:
    return []
  interval = next(row for row in rows if row.label == best.label).interval
  found = f"{best.label} ({interval.mean:.4g}, n = {interval.n})"
  if not best.others:
    sentence = f"Mean {sweep.metric}: {found}."
  elif not best.undecided:
    sentence = (
      f"Best {sweep.metric}: {found}, better than the second,"
      f" {best.others[0]}, and than every other."
    )
  elif best.tested:
    sentence = (
      f"Best mean {sweep.metric}: {found}, not distinguishable from"
      f" {errors.few(best.undecided, 3)}."
    )
  else:
    sentence = (
      f"Best mean {sweep.metric}: {found}, by too few seeds to tell it from"
      f" {errors.few(best.others, 3)}."
    )
  lost = [row.label for row in rows if row.diverged]
  if lost:
    sentence += f" Seeds diverged, so not ranked: {errors.few(lost)}."
  return [sentence]


def baseline_diverged(
  sweep: SweepRecord, rows: Sequence[stats.Row]
) -> list[str]:
  """What becomes of the comparison where the baseline has diverged."""
  row = next((r for r in rows if r.label == sweep.baseline), None)
  if row is None or not row.diverged:
    return []
  becomes = (
    "no method is called better or worse than it. Another Sweep.baseline needs"
    " no new runs"
  )
  if verdicts.is_exact(sweep):
    becomes = "each of these counts as the worst value"
  return [
    f"The baseline diverged for {len(row.diverged)} of {row.over} seeds:"
    f" {becomes}."
  ]
