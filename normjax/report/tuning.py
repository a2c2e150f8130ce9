"""What a report says of tuning: its budget, whose luck it is, whose data."""

import json
import math
from collections.abc import Sequence

from normjax import errors, simulate
from normjax.record import comparison
from normjax.record.comparison import short_names
from normjax.record.directory import RunState
from normjax.report import stats, verdicts
from normjax.report.load import Run, SweepRecord
from normjax.report.tables import NOTHING


def budget(sweep: SweepRecord) -> str:
  """What was tuned, how, and with what budget."""
  num_tuned = len(sweep.rungs.methods if sweep.rungs else sweep.methods)
  said = f"{', '.join(sweep.tuned_keys)}: "
  said += comparison.budget(sweep.tunings, num_tuned, sweep.search)
  said += f", the baseline too; seeds {seeds(sweep, 'tune')}"
  if sweep.search is not None:
    said += f"; search {sweep.search.name}"
    said += ", with a second pass" if sweep.search.second_pass else ""
  return said


def seeds(sweep: SweepRecord, stage: str) -> str:
  """Of the runs of a stage, in words."""
  found = sorted({run.seed for run in sweep.runs if run.stage == stage})
  return ", ".join(map(str, found)) or NOTHING


def limits(sweep: SweepRecord, rows: Sequence[stats.Row]) -> list[str]:
  """What the tuning cannot say, or takes from the comparison."""
  if not sweep.tuned_keys:
    return [
      "Nothing was tuned: every method ran with the values of its config."
    ]
  lines = []
  counts = {row.trials_planned for row in rows}
  is_descent = sweep.search is not None and sweep.search.name == "coordinate"
  if len(counts) > 1:
    least, most = min(counts), max(counts)
    lines.append(
      f"Coordinate descent tried {least} to {most} settings per method: one"
      " whose best no longer moved spent no more."
      if is_descent
      else f"Tuning was unequal: {least} to {most} settings tried per method."
    )
  lost = {r.label: _num_failed(sweep, r.label) for r in rows}
  if said := [f"{label} {count}" for label, count in lost.items() if count]:
    lines.append(
      "Trials that failed could not be chosen, so that budgets differ by them:"
      f" {errors.few(said)}. The same command tries them again."
    )
  names = short_names(sweep.tuned_keys)
  lines.append(
    f"Only {', '.join(names[key] for key in sweep.tuned_keys)}"
    f" {'were' if len(names) > 1 else 'was'} tuned; all else is as in the"
    " configs."
  )
  for key, short in names.items():
    without = [
      r.label for r in rows if r.method.choices and not r.method.chosen(key)
    ]
    if without:
      lines.append(
        f"{short} was not tuned for {errors.few(without)}: no such number"
        " there, or the row sets it."
      )
  if edges := list(filter(None, (row.method.edges() for row in rows))):
    lines.append(f"Best value on an edge of the grid: {', '.join(edges)}.")
  lines += _ties(sweep)
  lines += _repetition(sweep)
  trials = [run for run in sweep.runs if run.stage == "tune"]
  for split in sorted({r.split for r in sweep.runs if r.stage == "final"}):
    labels = sorted({run.method for run in trials if run.split == split})
    if labels:
      lines.append(
        f"Tuned on {split}, the data of the final numbers, which flatters what"
        f" is tuned: {errors.few(labels)}."
      )
  if labels := _of_other_folds(sweep, trials):
    lines.append(
      "Tuned on validation: some trials had other folds than the final runs"
      " that they chose for, and read what those are validated on, which"
      f" flatters what is tuned: {errors.few(labels)}."
    )
  shared = {run.seed for run in trials} & {
    r.seed for r in sweep.runs if r.stage == "final"
  }
  if shared:
    lines.append(
      "Final seeds were also used for tuning, which flatters the tuned"
      f" methods: {', '.join(map(str, sorted(shared)))}."
    )
  return lines


def _of_other_folds(sweep: SweepRecord, trials: Sequence[Run]) -> list[str]:
  """Methods whose trials have another fold than a final run of theirs.

  Both hold out the validating fold of their own seed, and no other: trials of
  another one train or choose on what the final run is measured on.
  """
  folds: dict[int, int | None] = {
    run.seed: run.fold for run in sweep.runs if run.stage == "final"
  }
  return sorted(
    {
      trial.method
      for trial in trials
      for seed, fold in folds.items()
      if trial.for_seed in (seed, None)
      and None not in (fold, trial.fold)
      and fold != trial.fold
    }
  )


def _ties(sweep: SweepRecord) -> list[str]:
  """Where the first of several equal values was chosen."""
  scores: dict[tuple[str, int | None], dict[str, list[float]]] = {}
  for run in sweep.runs:
    value = run.metric(sweep.metric)
    if run.stage == "tune" and value is not None:
      tuned = {k: run.overrides.get(k) for k in sweep.tuned_keys}
      own = scores.setdefault((run.method, run.for_seed), {})
      own.setdefault(json.dumps(tuned), []).append(value)
  best = min if sweep.mode == "min" else max
  tied = []
  for (label, _), own in scores.items():
    means = [math.fsum(values) / len(values) for values in own.values()]
    if means.count(best(means)) > 1:
      tied.append(label)
  if not tied:
    return []
  count = f"{len(tied)} of {len(scores)} tunings"
  return [
    f"Several values had the best {sweep.metric} in {count}, and the first, as"
    " a rule the smallest, was taken: of"
    f" {errors.few(list(dict.fromkeys(tied)))}. A loss tells values apart"
    " better than a metric that takes steps."
  ]


def _num_failed(sweep: SweepRecord, label: str) -> int:
  """Trials of a method whose last attempt failed."""
  trials = sweep.trials(label)
  return sum(run.state is RunState.FAILED for run in trials)


def _repetition(sweep: SweepRecord) -> list[str]:
  """Whether the luck of tuning is in the intervals, and what it costs."""
  lines = []
  if sweep.tunings and sweep.tunings[0].for_seed is None:
    seeds = len(sweep.tunings[0].seeds)
    lines.append(
      f"Tuning was shared by all final seeds ({seeds} tuning"
      f" seed{'s' * (seeds != 1)}): its luck is not in the intervals."
    )
  if sweep.baseline is None:
    return lines
  said = simulate.sentence(
    len(sweep.methods),
    verdicts.planned_seeds(sweep),
    sweep.tunings,
    sweep.search,
    num_tuned=len(sweep.tuned_keys),
    exact=verdicts.is_exact(sweep),
    has_ladder=sweep.rungs is not None,
  )
  return [*lines, said] if said else lines
