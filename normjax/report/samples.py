"""What the final runs of a method give to its verdict."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from normjax.record import files, target
from normjax.record.directory import RunState
from normjax.report.load import Run, SweepRecord

# A value that is this close to a whole number of examples is a count.
_WHOLE = 1e-6


class Divergence(NamedTuple):
  """How many of a method's final runs that ended did so by diverging."""

  count: int
  of: int

  def __str__(self) -> str:
    """As in "2 of 5"."""
    return f"{self.count} of {self.of}"


@dataclasses.dataclass(frozen=True)
class Sample:
  """What a verdict sees of a method.

  Attributes:
    values: seed to final metric, of the runs that are done and have it. Where
      the data is cross-validated, the mean over the seeds of each fold: they
      are measured on the same examples, and are no further sample of them.
    diverged: seeds whose run diverged, or ended at a metric that is not finite.
    num_over: runs that ended, by finishing with the metric or diverging.
    censored: whether the metric is a target that some run never reached.
    units: seed to its key in `values`: itself, or that of its fold.
  """

  values: Mapping[int, float]
  diverged: frozenset[int]
  num_over: int
  censored: bool = False
  units: Mapping[int, int] = dataclasses.field(default_factory=dict)

  def scored(self, worst: float) -> dict[int, float]:
    """The values, with `worst` in place of what diverged."""
    lost = {self.units.get(seed, seed) for seed in self.diverged}
    return {**self.values, **dict.fromkeys(lost, worst)}

  @property
  def divergence(self) -> Divergence:
    """Of the runs that ended."""
    return Divergence(len(self.diverged), self.num_over)


def finals(sweep: SweepRecord) -> dict[str, Sample]:
  """Of each method, on the sweep's metric."""
  return {
    m.label: sample(sweep.finals(m.label), sweep.metric) for m in sweep.methods
  }


def sample(runs: Sequence[Run], metric: str) -> Sample:
  """What the final runs of a method give to a verdict on a metric.

  Of a target that some run ended without reaching there is no value.
  """
  diverged = frozenset(r.seed for r in runs if is_diverged(r, metric))
  values = {r.seed: r.metric(metric) for r in runs if r.state.over}
  known = {seed: v for seed, v in values.items() if v is not None}
  units = {run.seed: _unit(run) for run in runs}
  if target.parse(metric) is not None and len(known) < len(values):
    return Sample({}, diverged, len(values), censored=True, units=units)
  num_over = len(known) + len(diverged)
  own: dict[int, list[float]] = {}
  for seed, value in known.items():
    own.setdefault(units[seed], []).append(value)
  means = {unit: sum(each) / len(each) for unit, each in own.items()}
  return Sample(means, diverged, num_over, units=units)


def _unit(run: Run) -> int:
  """The seed, or a number of its fold that is no seed."""
  return run.seed if run.fold is None else -1 - run.fold


def is_diverged(run: Run, metric: str) -> bool:
  """Whether a run diverged, or ended at a metric that is not finite."""
  if run.state is not RunState.DONE or target.parse(metric) is not None:
    return run.state is RunState.DIVERGED
  return run.result["metrics"].get(metric, 0.0) is None


def resolution(sweep: SweepRecord, metric: str | None = None) -> float:
  """The step of a metric that takes steps; 0: it has none that is known.

  1 / N of a metric that is counted over N examples, as an accuracy is: every
  final value times N is whole. The steps between two evaluations of a target.

  Args:
    sweep: with its final runs.
    metric: None: the sweep's own.
  """
  metric = sweep.metric if metric is None else metric
  goal = target.parse(metric)
  if goal is not None:
    every = sweep.config.get("evaluate", {}).get("every_steps")
    is_known = goal.unit == "steps" and isinstance(every, int)
    return float(every) if is_known else 0.0
  done = [
    run
    for run in sweep.runs
    if run.stage == "final" and run.metric(metric) is not None
  ]
  numbers = {_num_examples(run) for run in done}
  if not numbers or None in numbers:
    return 0.0
  is_count = all(
    abs(count - round(count)) < _WHOLE
    for run in done
    if (count := run.metric(metric) * _num_examples(run)) is not None
  )
  return 1 / min(numbers) if is_count else 0.0


def _num_examples(run: Run) -> float | None:
  """How many examples the evaluation counted; None where nothing says it.

  Results of earlier versions do not: there the size of the split does, which
  is right where the evaluation took all of it.
  """
  said = run.result.get(files.EVAL_EXAMPLES)
  if said is None:
    data: Any = run.record.get("provenance", {}).get("data")
    sizes = data.get("sizes") if isinstance(data, Mapping) else None
    said = sizes.get("validation") if isinstance(sizes, Mapping) else None
  is_number = isinstance(said, int | float) and not isinstance(said, bool)
  return said if is_number and said > 0 else None
