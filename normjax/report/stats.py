"""Statistics over seeds: intervals, paired differences, verdicts.

Seeds are paired across methods (same data order), so a method is compared
with the baseline by the differences over the seeds that both finished. A run
that diverged has no final value: it is counted, and never averaged in.
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence

import numpy as np

# Student's t as functions: `scipy.stats` takes half a second to import.
from scipy import special

from normjax.record import target
from normjax.record.comparison import Method
from normjax.record.directory import RunState
from normjax.report.load import Run, SweepRecord

CONFIDENCE = 0.95
POWER = 0.8
# Past this many seeds the answer is "too many", whatever the number.
MAX_SEEDS = 1000

BETTER = "better"
WORSE = "worse"
SAME = "not distinguishable"
TOO_FEW = "n < 2"
ALL_DIVERGED = "all diverged"
SOME_DIVERGED = "some diverged"
NOT_REACHED = "not all reached"
BASELINE = "baseline"
NO_BASELINE = ""


@dataclasses.dataclass(frozen=True)
class Interval:
  """Mean of n values with its two-sided t-interval.

  Attributes:
    mean: None where n = 0.
    low: lower end; None where n < 2.
    high: upper end; None where n < 2.
    sd: standard deviation with n - 1; None where n < 2.
  """

  n: int
  mean: float | None = None
  low: float | None = None
  high: float | None = None
  sd: float | None = None

  @property
  def half_width(self) -> float | None:
    """Half the interval's length; None where n < 2."""
    return None if self.high is None else self.high - self.mean


@dataclasses.dataclass(frozen=True)
class Difference:
  """A method minus the baseline, over their common seeds.

  Attributes:
    interval: of the paired differences, in the metric's unit.
    p_value: two-sided paired t-test; None where n < 2.
    p_holm: the same, adjusted over all rows by Holm's method.
    seeds_needed: seeds for a power of 80% if difference and spread were as
      observed; None where n < 2 or the difference is 0.
  """

  interval: Interval
  p_value: float | None = None
  p_holm: float | None = None
  seeds_needed: int | None = None


@dataclasses.dataclass(frozen=True)
class Row:
  """What is known of one method.

  Attributes:
    values: seed to final metric, of the runs that are done.
    planned: final runs in the plan.
    diverged: seed to the step at which it diverged.
    gradient_zero: seed to the step from which its gradient was exactly 0 to
      the end, of the final runs that ended so.
    trials: tuning settings tried; None where nothing was tuned.
    trials_planned: tuning settings in the plan.
    trials_diverged: tuning runs that diverged.
    verdict: corrected for the number of comparisons, by Holm's adjustment.
    verdict_uncorrected: of the interval of the difference alone.
    steps: steps of the runs that are done (the largest).
    train_s: mean training time of the runs that are done.
    compile_s: of the method's program, by whichever run compiled it; None
      where no run says.
    num_done: final runs that are done, and have the metric.
    others: the sweep's other metrics by name, over the runs that are done.
    reached: of the metrics that are targets which not all runs reached: they
      have no mean and no difference, see `record.target`.
  """

  method: Method
  values: Mapping[int, float]
  planned: int
  diverged: Mapping[int, int | None]
  gradient_zero: Mapping[int, int]
  failed: int
  trials: int | None
  trials_planned: int
  trials_diverged: int
  interval: Interval
  difference: Difference | None
  verdict: str
  verdict_uncorrected: str
  steps: int | None
  train_s: float | None
  compile_s: float | None
  optimizer_state_bytes: int | None
  num_params: int | None
  num_done: int
  others: Mapping[str, Interval]
  reached: Mapping[str, target.Reached] = dataclasses.field(
    default_factory=dict
  )

  @property
  def label(self) -> str:
    """The method's name."""
    return self.method.label

  @property
  def over(self) -> int:
    """Final runs that ended, by finishing or diverging."""
    return self.num_done + len(self.diverged)


def mean_interval(values: Sequence[float]) -> Interval:
  """Mean and 95% t-interval: mean ± t(0.975, n - 1) sd / sqrt(n).

  Args:
    values: one per seed; may be empty.
  """
  n = len(values)
  if n == 0:
    return Interval(0)
  mean = float(np.mean(values))
  if n == 1:
    return Interval(1, mean)
  sd = float(np.std(values, ddof=1))
  t = special.stdtrit(n - 1, (1 + CONFIDENCE) / 2)
  half = float(t * sd / math.sqrt(n))
  return Interval(n, mean, mean - half, mean + half, sd)


def paired_difference(
  values: Mapping[int, float], baseline: Mapping[int, float]
) -> Difference:
  """Differences over the common seeds, their t-interval and t-test.

  Args:
    values: seed to metric of the method.
    baseline: seed to metric of the baseline.
  """
  seeds = sorted(values.keys() & baseline.keys())
  interval = mean_interval([values[s] - baseline[s] for s in seeds])
  if interval.n < 2:
    return Difference(interval)
  return Difference(
    interval, p_value=_p_value(interval), seeds_needed=seeds_needed(interval)
  )


def _p_value(interval: Interval) -> float:
  """Two-sided one-sample t-test of mean = 0."""
  if interval.sd == 0:
    return 1.0 if interval.mean == 0 else 0.0
  t = interval.mean / (interval.sd / math.sqrt(interval.n))
  return float(2 * special.stdtr(interval.n - 1, -abs(t)))


def seeds_needed(interval: Interval) -> int | None:
  """Smallest n with n ≥ ((t(0.975, n - 1) + t(0.8, n - 1)) sd / mean)².

  A paired t-test at 95% then has a power of about 80%, if the true mean and
  spread of the differences are those observed. `MAX_SEEDS` stands for more.
  """
  if not interval.mean:
    return None
  ratio = interval.sd / abs(interval.mean)
  ns = np.arange(2, MAX_SEEDS)
  quantiles = special.stdtrit(ns - 1, (1 + CONFIDENCE) / 2)
  quantiles = quantiles + special.stdtrit(ns - 1, POWER)
  enough = ns >= np.square(quantiles * ratio)
  return int(ns[np.argmax(enough)]) if enough.any() else MAX_SEEDS


def holm(p_values: Sequence[float]) -> list[float]:
  """Holm's step-down adjustment: controls the family-wise error rate."""
  adjusted = [0.0] * len(p_values)
  largest = 0.0
  order = sorted(range(len(p_values)), key=lambda i: p_values[i])
  for rank, index in enumerate(order):
    largest = max(largest, (len(p_values) - rank) * p_values[index])
    adjusted[index] = min(1.0, largest)
  return adjusted


def verdict(difference: Interval, mode: str) -> str:
  """What the interval of a paired difference allows to say.

  Args:
    difference: method minus baseline.
    mode: "min" where a smaller metric is better, else "max".
  """
  if difference.n < 2:
    return TOO_FEW
  if difference.low <= 0 <= difference.high:
    return SAME
  return BETTER if (difference.mean < 0) == (mode == "min") else WORSE


def summarize(sweep: SweepRecord) -> tuple[Row, ...]:
  """One row per method, in the plan's order."""
  values = {
    m.label: _values(sweep.finals(m.label), sweep.metric) for m in sweep.methods
  }
  compiled_s = _compiled_s(sweep)
  rows = [_row(sweep, method, values, compiled_s) for method in sweep.methods]
  tested = [
    i for i, r in enumerate(rows) if r.difference and r.difference.p_value
    is not None
  ]  # fmt: skip
  adjusted = holm([rows[i].difference.p_value for i in tested])
  for index, p_holm in zip(tested, adjusted, strict=True):
    rows[index] = _adjusted(rows[index], p_holm)
  return tuple(rows)


def _adjusted(row: Row, p_holm: float) -> Row:
  """The row with its verdict as the number of comparisons allows it."""
  word = row.verdict
  if word in (BETTER, WORSE) and p_holm >= 1 - CONFIDENCE:
    word = SAME
  difference = dataclasses.replace(row.difference, p_holm=p_holm)
  return dataclasses.replace(row, difference=difference, verdict=word)


def _values(runs: Sequence[Run], metric: str) -> dict[int, float]:
  """Seed to final value, of the runs that have one.

  Of a target that some run ended without reaching there is none.
  """
  if _reached(runs, metric) is not None:
    return {}
  values = {run.seed: run.metric(metric) for run in runs}
  return {seed: v for seed, v in values.items() if v is not None}


def _reached(runs: Sequence[Run], metric: str) -> target.Reached | None:
  """How many reached a target; None where all did, or it is another metric."""
  if target.parse(metric) is None:
    return None
  found = target.reached([r.metric(metric) for r in runs if r.state.over])
  return None if found.count == found.of else found


def _row(
  sweep: SweepRecord,
  method: Method,
  values: Mapping[str, Mapping[int, float]],
  compiled_s: Mapping[str | None, float],
) -> Row:
  own = values[method.label]
  finals = sweep.finals(method.label)
  trials = sweep.trials(method.label)
  survivors = [run for run in finals if run.state is RunState.DONE]
  diverged = {
    run.seed: run.result.get("diverged_at_step")
    for run in finals
    if run.state is RunState.DIVERGED
  }
  difference, word = None, NO_BASELINE
  baseline = sweep.baseline_of(method.label)
  if method.label == baseline:
    word = BASELINE
  elif baseline in values:
    difference = paired_difference(own, values[baseline])
    word = verdict(difference.interval, sweep.mode)
  every = (sweep.metric, *sweep.other_metrics)
  reached = {
    name: found
    for name in every
    if (found := _reached(finals, name)) is not None
  }
  if word == TOO_FEW and (
    sweep.metric in reached
    or _reached(sweep.finals(baseline or ""), sweep.metric) is not None
  ):
    word = NOT_REACHED
  if diverged and not own and len(diverged) == len(finals):
    word = ALL_DIVERGED
  elif diverged and word == BETTER:
    word = SOME_DIVERGED  # Its mean is over the survivors.
  times = _numbers(survivors, "train_s")
  return Row(
    method=method,
    values=own,
    planned=len(finals),
    diverged=diverged,
    gradient_zero={
      run.seed: run.gradient_zero_since
      for run in finals
      if run.gradient_zero_since is not None
    },
    failed=sum(run.state is RunState.FAILED for run in finals),
    trials=_settings([t for t in trials if t.state.over])
    if sweep.tuned_keys
    else None,
    trials_planned=_settings(trials),
    trials_diverged=sum(trial.state is RunState.DIVERGED for trial in trials),
    interval=mean_interval(list(own.values())),
    difference=difference,
    verdict=word,
    verdict_uncorrected=word,
    steps=max(_numbers(survivors, "steps"), default=None),
    train_s=float(np.mean(times)) if times else None,
    compile_s=_compile_s(finals or trials, compiled_s),
    optimizer_state_bytes=_recorded(finals, "optimizer_state_bytes"),
    num_params=_recorded(finals, "num_params"),
    others={
      name: mean_interval(list(_values(finals, name).values()))
      for name in sweep.other_metrics
    },
    reached=reached,
    num_done=reached[sweep.metric].of - len(diverged)
    if sweep.metric in reached
    else len(own),
  )


def _settings(runs: Sequence[Run]) -> int:
  """Distinct settings of all tunings, whatever the seed."""
  return len(
    {
      json.dumps(
        [run.for_seed, {k: v for k, v in run.overrides.items() if k != "seed"}]
      )
      for run in runs
    }
  )


def _compiled_s(sweep: SweepRecord) -> dict[str | None, float]:
  """By program, the largest compile time of any run of it.

  A program is compiled once per process, by the run that comes first: often a
  trial, or another method's. The others say 0.
  """
  largest: dict[str | None, float] = {}
  for run in sweep.runs:
    program = run.record.get("program")
    seconds = run.result.get("compile_s")
    if program is not None and seconds is not None:
      largest[program] = max(seconds, largest.get(program, 0.0))
  return largest


def _compile_s(
  runs: Sequence[Run], compiled_s: Mapping[str | None, float]
) -> float | None:
  """The largest of the runs' own and of their programs'."""
  programs = {run.record.get("program") for run in runs}
  shared = [compiled_s[p] for p in programs if p in compiled_s]
  return max([*_numbers(runs, "compile_s"), *shared], default=0.0) or None


def _numbers(runs: Sequence[Run], key: str) -> list[float]:
  return [r.result[key] for r in runs if r.result.get(key) is not None]


def _recorded(runs: Sequence[Run], key: str) -> int | None:
  """The first run's value: all seeds of a method are one program."""
  for run in runs:
    value = run.result.get(key, run.record.get(key))
    if value is not None:
      return value
  return None
