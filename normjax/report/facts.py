"""What a reader must know beside the numbers, derived from the files.

Config differences, provenance, failures, and the limits of the comparison.
"""

import dataclasses
import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from normjax import configure
from normjax.record import comparison, schema, sources, target
from normjax.record.comparison import differing_keys, short_names
from normjax.record.directory import RunState
from normjax.record.failures import Failure, told
from normjax.report import stats
from normjax.report.load import Run, SweepRecord
from normjax.report.tables import NOTHING, show_value

# Differ between runs by their nature.
_UNIQUE = ("created", "git.diff", "git.diff_file")


@dataclasses.dataclass(frozen=True)
class Provenance:
  """One line of provenance: its values with the number of runs of each."""

  name: str
  values: tuple[tuple[str, int], ...]

  @property
  def differs(self) -> bool:
    """Runs were not made alike."""
    return len(self.values) > 1


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
    parts.append(f"no final runs yet: {_few(waiting)}")
  return ", ".join(parts) or "no runs are planned"


def _few(names: Sequence[str], most: int = 6) -> str:
  """Names, and how many more there are."""
  more = len(names) - most
  return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def is_complete(sweep: SweepRecord) -> bool:
  """Every method has final runs, and every planned run is over."""
  return all(run.state.over for run in sweep.runs) and all(
    sweep.finals(m.label) for m in sweep.methods
  )


def findings(sweep: SweepRecord, rows: Sequence[stats.Row]) -> list[str]:
  """The result in sentences, no stronger than the intervals."""
  sentences = []
  done = [row for row in rows if row.interval.n]
  if done:
    pick = min if sweep.mode == "min" else max
    best = pick(done, key=lambda row: row.interval.mean)
    sentences.append(
      f"Best mean {sweep.metric}: {best.label}"
      f" ({best.interval.mean:.4g}, n = {best.interval.n})."
    )
  compared = [row for row in rows if row.difference]
  if compared:
    count = Counter(row.verdict for row in compared)
    order = (
      stats.BETTER, stats.WORSE, stats.SAME, stats.SOME_DIVERGED,
      stats.ALL_DIVERGED, stats.NOT_REACHED, stats.TOO_FEW,
    )  # fmt: skip
    noun = "method" if sweep.rungs is None else "row"
    noun += "s" * (len(compared) != 1)
    said = ", ".join(f"{count[word]} {word}" for word in order if count[word])
    sentences.append(
      f"Compared with {sweep.baseline_name}, of {len(compared)} {noun}: {said}."
    )
    lost = sum(row.verdict != row.verdict_uncorrected for row in compared)
    if lost:
      sentences.append(
        f"Verdicts are adjusted for {len(compared)} comparisons (Holm); {lost}"
        f" more would be decided without that."
      )
  return sentences


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
  lines += [
    f"{describe(run)}: {problem}"
    for run in sweep.runs
    for problem in run.record.get("problems", ())
  ]
  lines += [
    f"{describe(run)}: done, but has no {sweep.metric}; not in the mean"
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
  if sweep.baseline is not None and sweep.baseline not in {
    row.label for row in rows
  }:
    lines.append(f"the baseline {sweep.baseline!r} is none of the methods")
  lines += [
    f"runs differ in {line.name}: "
    + "; ".join(f"{value} ({n} runs)" for value, n in line.values)
    for line in provenance(sweep)
    if line.differs
  ]
  dirty = sum(bool(_git(run).get("dirty")) for run in sweep.runs)
  if dirty:
    lines.append(f"{dirty} of {len(sweep.runs)} runs had uncommitted changes")
  return lines


def limits(sweep: SweepRecord, rows: Sequence[stats.Row]) -> list[str]:
  """What the comparison cannot say."""
  lines = []
  counts = sorted({row.interval.n for row in rows})
  if counts and counts[0] != counts[-1]:
    lines.append(
      f"Rows rest on {counts[0]} to {counts[-1]} seeds: not all alike."
    )
  elif counts:
    n = counts[0]
    lines.append(f"Every row rests on {n} seed{'s' if n != 1 else ''}.")
  if counts and counts[0] < 5:
    lines.append(
      "With so few seeds intervals are wide: not distinguishable does not"
      " mean equal."
    )
  lines += _tuning_limits(sweep, rows)
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
  flat = dict(configure.leaves(sweep.config))
  model, data = flat.get("model.name"), flat.get("data.name")
  if model and data:
    lines.append(f"One model ({model}) on one data set ({data}).")
  return lines


def _tuning_limits(sweep: SweepRecord, rows: Sequence[stats.Row]) -> list[str]:
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
        f"{short} was not tuned for {_few(without)}: no such number there, or"
        " the row sets it."
      )
  if edges := list(filter(None, (row.method.edges() for row in rows))):
    lines.append(f"Best value on an edge of the grid: {', '.join(edges)}.")
  lines += _repetition(sweep)
  trials = [run for run in sweep.runs if run.stage == "tune"]
  on_validation = {r.method for r in trials if r.split == "validation"}
  if on_validation:
    lines.append(
      "Tuned on validation, the data of the final numbers, which flatters"
      f" what is tuned: {_few(sorted(on_validation))}."
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


def _repetition(sweep: SweepRecord) -> list[str]:
  """Whether the luck of tuning is in the intervals, and what it costs."""
  if not sweep.tunings or sweep.tunings[0].for_seed is not None:
    return []
  seeds = len(sweep.tunings[0].seeds)
  return [
    f"Tuning was shared by all final seeds ({seeds} tuning"
    f" seed{'s' * (seeds != 1)}): its luck is not in the intervals."
  ]


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
          ]
        ),
      ),
      ("Sweep", sweep.sweep_id),
    ]
  lines += [
    ("Methods", str(len(rows)) if sweep.rungs is None else _rungs(sweep)),
    ("Baseline", sweep.baseline_name or "none"),
    ("Final seeds", _seeds(sweep, "final")),
  ]
  if sweep.tuned_keys:
    lines.append(("Tuning", _tuning(sweep)))
  else:
    lines.append(("Tuning", "none"))
  flat = dict(configure.leaves(sweep.config))
  for block in ("model", "data"):
    if name := flat.get(f"{block}.name"):
      lines.append((block.capitalize(), str(name)))
  steps = flat.get("train.num_steps")
  if schema.is_count(steps) and sweep.rungs is None:
    lines.append(("Steps", f"{steps:,}"))
  return lines


def _rungs(sweep: SweepRecord) -> str:
  rungs = sweep.rungs
  count, shared = len(rungs.methods), len(rungs.sizes) * len(rungs.budgets)
  more = len(rungs.rows) - count * shared
  said = f"{count}, each at {shared} rungs"
  return f"{said}, the baseline at {more} more" if more else said


def _tuning(sweep: SweepRecord) -> str:
  """What was tuned, how, and with what budget."""
  num_tuned = len(sweep.rungs.methods if sweep.rungs else sweep.methods)
  said = f"{', '.join(sweep.tuned_keys)}: "
  said += comparison.budget(sweep.tunings, num_tuned, sweep.search)
  said += f", the baseline too; seeds {_seeds(sweep, 'tune')}"
  if sweep.search is not None:
    said += f"; search {sweep.search.name}"
    said += ", with a second pass" if sweep.search.second_pass else ""
  return said


def _seeds(sweep: SweepRecord, stage: str) -> str:
  seeds = sorted({run.seed for run in sweep.runs if run.stage == stage})
  return ", ".join(map(str, seeds)) or NOTHING


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


def provenance(sweep: SweepRecord) -> list[Provenance]:
  """Where the runs' numbers came from; differing values side by side."""
  counts: dict[str, Counter[str]] = {}
  for run in sweep.runs:
    record = run.record.get("provenance", {})
    for path, value in configure.leaves(record):
      if path not in _UNIQUE:
        text = value if isinstance(value, str) else json.dumps(value)
        counts.setdefault(path, Counter())[text] += 1
  return [
    Provenance(name, tuple(values.most_common()))
    for name, values in counts.items()
  ]


def created(sweep: SweepRecord) -> str:
  """First and last start of a run, UTC."""
  times = sorted(
    time
    for run in sweep.runs
    if (time := run.record.get("provenance", {}).get("created"))
  )
  if not times:
    return NOTHING
  first, last = (time[:19].replace("T", " ") for time in (times[0], times[-1]))
  return f"{first} to {last}"


def diffs(sweep: SweepRecord) -> list[str]:
  """Distinct uncommitted changes."""
  found = (_diff(run) for run in sweep.runs)
  return list(dict.fromkeys(diff for diff in found if diff))


def _diff(run: Run) -> str:
  """A run's uncommitted changes; runs of earlier versions hold the text."""
  git = _git(run)
  kept = git.get("diff_file")
  if not kept or run.directory is None:
    return git.get("diff", "")
  return sources.read(run.directory.sources, kept)


def _git(run: Run) -> Mapping[str, Any]:
  return run.record.get("provenance", {}).get("git") or {}
