"""What a reader must know beside the numbers, derived from the files.

Config differences, failures, and the limits of the comparison.
"""

import json
import shlex
from collections.abc import Sequence

from normjax import configure, errors
from normjax.record import clock, schema, target
from normjax.record.comparison import differing_keys
from normjax.record.directory import RunState
from normjax.record.failures import Failure, told
from normjax.report import provenance, samples, stats, tuning, verdicts
from normjax.report.findings import baseline_diverged
from normjax.report.load import Run, SweepRecord
from normjax.report.tables import NOTHING, show_value


def progress(sweep: SweepRecord) -> str:
  """How much of the plan is there: "25 of 27 final runs …"."""
  parts = []
  for stage, name in (("tune", "tuning"), ("final", "final")):
    runs = [run for run in sweep.runs if run.stage == stage]
    if runs:
      over = sum(run.state.over for run in runs)
      parts.append(f"{over} of {len(runs)} {name} runs are over")
  waiting = [m.label for m in sweep.methods if not sweep.finals(m.label)]
  if waiting and len(waiting) < len(sweep.methods):
    # Part of the sweep was run; the rest is to come.
    parts.append(f"no final runs yet: {errors.few(waiting)}")
  return ", ".join(parts) or "no runs are planned"


def is_complete(sweep: SweepRecord) -> bool:
  """Every method has final runs, and every planned run is over."""
  return all(run.state.over for run in sweep.runs) and all(
    sweep.finals(m.label) for m in sweep.methods
  )


def incomplete(sweep: SweepRecord) -> list[str]:
  """A sentence where the numbers are not the last ones."""
  if is_complete(sweep):
    return []
  return [f"Not complete: {progress(sweep)}."]


def unfinished(sweep: SweepRecord) -> list[str]:
  """What is missing, one line per run."""
  lines = []
  for run in sweep.runs:
    if run.state.over or run.state is RunState.FAILED:
      continue
    where = ""
    if run.status.get("step") is not None:
      where = f" at step {run.status['step']} of {run.status.get('num_steps')}"
    lines.append(f"{describe(run)}: {run.state}{where}")
  lines += [
    f"{m.label}: no final runs are planned yet"
    for m in sweep.methods
    if not sweep.finals(m.label)
  ]
  return lines


def failures(sweep: SweepRecord) -> list[str]:
  """A line per fault of failed runs, and of those that needed a retry."""
  failed = [
    Failure(
      describe(run),
      "failed"
      + (f" {run.attempts} times" if run.attempts > 1 else "")
      + (f": {run.message}" if run.message else ""),
      run.run_id,
    )
    for run in sweep.failed
  ]
  retried = [
    Failure(
      describe(run),
      f"{run.state} after {run.attempts} failed attempt"
      + ("s" if run.attempts > 1 else ""),
    )
    for run in sweep.runs
    if run.attempts and run.state.over
  ]
  return told([*failed, *retried], "runs")


def describe(run: Run) -> str:
  """A run in words: method, seed, stage, identifier."""
  return f"{run.method}, seed {run.seed}, {run.stage} ({run.run_id})"


def warnings(sweep: SweepRecord, rows: Sequence[stats.Row]) -> list[str]:
  """Unreadable lines, what runs met, and results that cannot be used."""
  lines = list(sweep.problems)
  lines += told(
    (
      Failure(describe(run), problem)
      for run in sweep.runs
      for problem in run.record.get("problems", ())
    ),
    "runs",
  )
  lines += [
    f"{describe(run)}: done, but {_lacks(run, sweep.metric)}"
    for run in sweep.runs
    if run.state is RunState.DONE
    and run.metric(sweep.metric) is None
    and target.parse(sweep.metric) is None
  ]
  lines += [
    f"{describe(run)}: the gradient was exactly 0 from step"
    f" {run.gradient_zero_since} to the end, the loss was not"
    for run in sweep.runs
    if run.gradient_zero_since is not None
  ]
  lines += _waited_for_data(sweep)
  if sweep.costs is not None:
    lines += [
      f"no bytes of {label} in {sweep.costs.file}: {why}"
      for label, why in sweep.costs.missing.items()
    ]
  if sweep.baseline is not None and sweep.baseline not in {
    row.label for row in rows
  }:
    lines.append(f"the baseline {sweep.baseline!r} is none of the methods")
  lines += [
    f"runs differ in {line.name}: "
    + "; ".join(f"{value} ({n} runs)" for value, n in line.values)
    for line in provenance.lines(sweep)
    if line.differs
  ]
  dirty = sum(bool(provenance.git(run).get("dirty")) for run in sweep.runs)
  if dirty:
    lines.append(f"{dirty} of {len(sweep.runs)} runs had uncommitted changes")
  return lines


def _waited_for_data(sweep: SweepRecord) -> list[str]:
  """One sentence on the runs whose devices were idle for want of data."""
  shares = {
    describe(run): share
    for run in sweep.runs
    if (share := clock.waited_share(run.result))
  }
  if not shares:
    return []
  worst = max(shares, key=lambda name: shares[name])
  return [
    f"{len(shares)} of {len(sweep.runs)} runs waited for data for more than"
    f" {clock.SAID_DATA_WAIT_SHARE:.0%} of their training time, most of all"
    f" {worst}, for {shares[worst]:.0%}: their times are not those of the"
    " method. Where the data set has them, data.threads, data.workers or"
    " data.token_cache help"
  ]


def _lacks(run: Run, metric: str) -> str:
  """Why a run that is done is in no mean."""
  if samples.is_diverged(run, metric):
    return f"its {metric} is not finite; counted as diverged"
  return f"has no {metric}; not in the mean"


def _examples(sweep: SweepRecord) -> list[str]:
  """What the examples that are measured on leave open."""
  runs = [run for run in sweep.runs if run.stage == "final" and run.state.over]
  if not runs:
    return []
  if any(run.fold is not None for run in runs):
    return [
      "Folds are measured on examples of their own, and share most of those"
      " that they train on: a test of 5% errs in 6 to 7% of such comparisons."
    ]
  named = ", ".join(sorted({run.split for run in runs}))
  return [
    f"All seeds are measured on the same examples ({named}): verdicts are of"
    " these, and the luck of their draw is in no interval."
  ]


def limits(sweep: SweepRecord, rows: Sequence[stats.Row]) -> list[str]:
  """What the comparison cannot say."""
  lines = []
  counts = sorted({row.interval.n for row in rows})
  noun = "fold" if verdicts.repeated_folds(sweep) else "seed"
  if counts and counts[0] != counts[-1]:
    lines.append(
      f"Rows rest on {counts[0]} to {counts[-1]} {noun}s: not all alike."
    )
  elif counts:
    n = counts[0]
    lines.append(f"Every row rests on {n} {noun}{'s' if n != 1 else ''}.")
  seeds = verdicts.attainable(sweep)
  if seeds is not None and seeds.can_decide:
    lines.append(str(seeds))
  if counts and counts[0] < 5:
    lines.append(
      "With so few seeds intervals are wide: not distinguishable does not"
      " mean equal."
    )
  lines += _examples(sweep)
  lines += tuning.limits(sweep, rows)
  steps = {row.steps for row in rows if row.steps is not None}
  if len(steps) == 1:
    lines.append(
      f"One training length, {steps.pop():,} steps: a longer one may rank the"
      " methods otherwise."
    )
  elif steps:
    lines.append("Rows were trained for different numbers of steps.")
  tested = sum(row.difference is not None for row in rows)
  if tested > 1:
    lines.append(
      f"{tested} comparisons with one baseline: verdicts are adjusted for that"
      " (Holm), intervals are not."
    )
  survivors = [r.label for r in rows if r.diverged and r.interval.n]
  if survivors:
    lines.append(
      f"Means over survivors only, which flatters: {', '.join(survivors)}."
    )
  lines += baseline_diverged(sweep, rows)
  flat = dict(configure.leaves(sweep.config))
  model, data = flat.get("model.name"), flat.get("data.name")
  if model and data:
    lines.append(f"One model ({model}) on one data set ({data}).")
  return lines


def compared(
  sweep: SweepRecord, rows: Sequence[stats.Row]
) -> list[tuple[str, str]]:
  """Name and value of what defines the comparison."""
  better = "smaller" if sweep.mode == "min" else "larger"
  lines = [("Metric", f"{sweep.metric}, {better} is better")]
  if sweep.config_file:
    lines += [
      ("Base config", sweep.config_file),
      (
        "Command",
        shlex.join(
          [
            "normjax",
            "sweep",
            sweep.config_file,
            f"--out={sweep.directory.name}",
            *(f"--config.{k}={v}" for k, v in sweep.overrides.items()),
          ]
        ),
      ),
      ("Sweep", sweep.sweep_id),
    ]
  lines += [
    ("Methods", str(len(rows)) if sweep.rungs is None else _rungs(sweep)),
    ("Baseline", sweep.baseline_name or "none"),
    ("Final seeds", tuning.seeds(sweep, "final")),
  ]
  if sweep.tuned_keys:
    lines.append(("Tuning", tuning.budget(sweep)))
  else:
    lines.append(("Tuning", "none"))
  flat = dict(configure.leaves(sweep.config))
  for block in ("model", "data"):
    if name := flat.get(f"{block}.name"):
      lines.append((block.capitalize(), str(name)))
  lines += _evaluated(sweep)
  steps = flat.get("train.num_steps")
  if schema.is_count(steps) and sweep.rungs is None:
    lines.append(("Steps", f"{steps:,}"))
  return lines


def _evaluated(sweep: SweepRecord) -> list[tuple[str, str]]:
  """Which part of the data the final numbers and the choices are of."""
  lines = []
  for stage, name in (("tune", "Tuned on"), ("final", "Final numbers on")):
    # What a run that is not over will read is not known from its files.
    runs = [run for run in sweep.runs if run.stage == stage and run.result]
    if splits := sorted({run.split for run in runs}):
      sizes = list(filter(None, (run.num_examples for run in runs)))
      said = f"the {' and '.join(splits)} split{'s' * (len(splits) > 1)}"
      if sizes:
        ends = dict.fromkeys((min(sizes), max(sizes)))
        said += f", {' to '.join(f'{size:,}' for size in ends)} targets"
      lines.append((name, said))
  return lines


def _rungs(sweep: SweepRecord) -> str:
  rungs = sweep.rungs
  count, shared = len(rungs.methods), len(rungs.sizes) * len(rungs.budgets)
  more = len(rungs.rows) - count * shared
  said = f"{count}, each at {shared} rungs"
  return f"{said}, the baseline at {more} more" if more else said


def config_table(
  sweep: SweepRecord,
) -> tuple[list[str], list[tuple[str, list[str]]]]:
  """Config keys in which methods differ, and each method's values.

  A method's values are those of its first final run that has started, else
  the base config with its overrides and tuned values.
  """
  flat = []
  for method in sweep.methods:
    started = [r for r in sweep.finals(method.label) if r.record.get("config")]
    if started:
      leaves = dict(configure.leaves(started[0].record["config"]))
    else:
      leaves = dict(configure.leaves(sweep.config))
      leaves |= method.overrides
    leaves.pop("seed", None)
    for key in sweep.tuned_keys:
      if values := method.chosen(key):
        agree = all(value == values[0] for value in values)
        leaves[key] = values[0] if agree else values
    flat.append(leaves)
  keys = sorted(differing_keys(flat))
  return keys, [
    (
      method.label,
      [show_value(own[k]) if k in own else NOTHING for k in keys],
    )
    for method, own in zip(sweep.methods, flat, strict=True)
  ]


def base_config(sweep: SweepRecord) -> list[tuple[str, str]]:
  """Dotted path and value of the whole base config."""
  return [
    (path, json.dumps(value)) for path, value in configure.leaves(sweep.config)
  ]
