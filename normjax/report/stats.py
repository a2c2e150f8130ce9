"""What a report says of each method: a row of numbers, and its verdict.

Seeds are paired across methods (same data order), so a method is compared
with the baseline by the differences over the seeds that both finished. A run
that diverged has no final value: it is counted, and never averaged in.
`verdicts` decides, by the tests of `normjax.statistics`.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from normjax.record import target
from normjax.record.comparison import Method
from normjax.record.directory import RunState
from normjax.report import samples, verdicts
from normjax.report.load import Run, SweepRecord
from normjax.report.samples import Sample
from normjax.report.verdicts import Compared, Difference
from normjax.statistics import Interval, mean_interval


@dataclasses.dataclass(frozen=True)
class Row:
  """What is known of one method.

  Attributes:
    values: seed to final metric, of the runs that are done.
    planned: final runs in the plan.
    diverged: seed to the step at which it diverged; the last one, where the
      metric was not finite at the end.
    gradient_zero: seed to the step from which its gradient was exactly 0 to
      the end, of the final runs that ended so.
    trials: tuning settings tried; None where nothing was tuned.
    trials_planned: tuning settings in the plan.
    trials_diverged: tuning runs that diverged.
    verdict: corrected for the number of comparisons, by Holm's adjustment;
      see `verdicts`.
    verdict_uncorrected: by the unadjusted p-value.
    steps: steps of the runs that are done (the largest).
    train_s: mean training time of the runs that are done.
    step_ms: median over those runs, of the median step of each.
    examples_per_s: likewise, like the next four; None where no run says.
    tokens_per_s: see `record.clock.rates`.
    mfu: see `record.clock.rates`.
    data_wait_share: of the training time.
    peak_device_bytes: of its memory; see `record.memory`.
    compile_s: of the method's program, by whichever run compiled it; None
      where no run says.
    forwards_per_step: the products of a step in those of a forward pass; see
      `train.throughput.model_flops`.
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
  step_ms: float | None
  examples_per_s: float | None
  tokens_per_s: float | None
  mfu: float | None
  data_wait_share: float | None
  peak_device_bytes: int | None
  compile_s: float | None
  forwards_per_step: float | None
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


def summarize(sweep: SweepRecord) -> tuple[Row, ...]:
  """One row per method, in the plan's order."""
  own = samples.finals(sweep)
  compared = verdicts.compare(sweep, own)
  compiled_s = _compiled_s(sweep)
  return tuple(
    _row(sweep, m, own[m.label], compared[m.label], compiled_s)
    for m in sweep.methods
  )


def _reached(runs: Sequence[Run], metric: str) -> target.Reached | None:
  """How many reached a target; None where all did, or it is another metric."""
  if target.parse(metric) is None:
    return None
  found = target.reached([r.metric(metric) for r in runs if r.state.over])
  return None if found.count == found.of else found


def _row(
  sweep: SweepRecord,
  method: Method,
  own: Sample,
  compared: Compared,
  compiled_s: Mapping[str | None, float],
) -> Row:
  finals = sweep.finals(method.label)
  trials = sweep.trials(method.label)
  survivors = [
    run
    for run in finals
    if run.state is RunState.DONE and run.seed not in own.diverged
  ]
  reached = {
    name: found
    for name in (sweep.metric, *sweep.other_metrics)
    if (found := _reached(finals, name)) is not None
  }
  times = _numbers(survivors, "train_s")
  return Row(
    method=method,
    values=own.values,
    planned=len(finals),
    diverged={
      run.seed: run.result.get(
        "diverged_at_step" if run.state is RunState.DIVERGED else "steps"
      )
      for run in finals
      if run.seed in own.diverged
    },
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
    interval=mean_interval(list(own.values.values())),
    difference=compared.difference,
    verdict=compared.verdict,
    verdict_uncorrected=compared.verdict_uncorrected,
    steps=max(_numbers(survivors, "steps"), default=None),
    train_s=float(np.mean(times)) if times else None,
    step_ms=_median(survivors, "step_ms_median"),
    examples_per_s=_median(survivors, "examples_per_s"),
    tokens_per_s=_median(survivors, "tokens_per_s"),
    mfu=_median(survivors, "mfu"),
    data_wait_share=_median(survivors, "data_wait_share"),
    peak_device_bytes=max(
      _numbers(survivors, "peak_device_bytes"), default=None
    ),
    compile_s=_compile_s(finals or trials, compiled_s),
    forwards_per_step=_recorded(finals, "forwards_per_step"),
    optimizer_state_bytes=_recorded(finals, "optimizer_state_bytes"),
    num_params=_recorded(finals, "num_params"),
    others={
      name: mean_interval(list(samples.sample(finals, name).values.values()))
      for name in sweep.other_metrics
    },
    reached=reached,
    num_done=own.num_over - len(own.diverged),
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


def _median(runs: Sequence[Run], key: str) -> float | None:
  found = _numbers(runs, key)
  return float(np.median(found)) if found else None


def _recorded(runs: Sequence[Run], key: str) -> Any:
  """The first run's value: all seeds of a method are one program."""
  for run in runs:
    value = run.result.get(key, run.record.get(key))
    if value is not None:
      return value
  return None
