"""A method's effect across sizes and budgets: its speed-up, and the trend.

At a size, the speed-up is the budget that the baseline needs for the loss that
the method has, by the baseline's own curve (`curve`), over the budget that the
method used: D_eff / D of arXiv:2509.02046. Over the budgets of a size it is
the geometric mean. The trend is the slope of log speed-up over log parameters,
embeddings included, by least squares over the sizes.

Seeds are the samples: each draw of seeds is the same for all methods, sizes
and budgets, so that what they share cancels. Nothing is averaged over seeds
that are left: where a run of the method or of the baseline diverged, there is
no speed-up at that size, and that is said.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from normjax import statistics
from normjax.report import curve as curve_lib
from normjax.report import resample
from normjax.report.curve import Curves
from normjax.report.load import Run, SweepRecord
from normjax.report.resample import Estimate
from normjax.report.samples import is_diverged

GROWS = "grows"
STAYS = "stays"
FADES = "fades"
UNDECIDED = "not decided"
DIVERGED = "diverged"
# A speed-up stays where it changes by less from the smallest to the largest.
SAME_FACTOR = 1.1


@dataclasses.dataclass(frozen=True)
class Speedup:
  """A method at a size.

  Attributes:
    num_params: of the model, embeddings included; None where no run says.
    losses: by budget, the mean over seeds; None where a run has none.
    curve: the method's own, one sample; None where it has none.
    factors: by budget, the speed-up; of the baseline, what its curve makes of
      its own losses: 1 where it passes through them.
    beyond: budgets whose factor the baseline's curve gives outside of the
      budgets it was measured at.
    log: the logarithm of the speed-up, the mean over budgets.
    problem: why there is no speed-up, or no interval, or "".
  """

  method: str
  size: str
  num_params: int | None
  losses: Mapping[int, float | None]
  curve: Curves | None = None
  factors: Mapping[int, float] = dataclasses.field(default_factory=dict)
  beyond: tuple[int, ...] = ()
  log: Estimate | None = None
  problem: str = ""

  @property
  def floor(self) -> float | None:
    """E; None where there is no curve, or its beta is not positive."""
    return _known(self.curve.floors()) if self.curve else None

  @property
  def exponent(self) -> float | None:
    """Beta; None where there is no curve."""
    return _known(self.curve.exponents_r) if self.curve else None


@dataclasses.dataclass(frozen=True)
class Trend:
  """How a method's speed-up goes with size.

  Attributes:
    slope: of log speed-up over log parameters.
    p_value: two-sided, of no slope.
    p_same: of a change by `SAME_FACTOR` or more from the smallest size to the
      largest.
    p_holm: of no slope, adjusted for the number of methods.
    p_same_holm: the like of `p_same`.
    problem: why there is no slope, or no interval, or "".
  """

  method: str
  slope: Estimate | None = None
  p_value: float | None = None
  p_same: float | None = None
  p_holm: float | None = None
  p_same_holm: float | None = None
  verdict: str = UNDECIDED
  problem: str = ""


@dataclasses.dataclass(frozen=True)
class Ladder:
  """The analysis: a speed-up per method and size, a trend per method."""

  baseline: str
  speedups: tuple[Speedup, ...]
  trends: tuple[Trend, ...]


def analyse(sweep: SweepRecord) -> Ladder | None:
  """The ladder of a sweep; None where it has none, or no baseline."""
  rungs = sweep.rungs
  if rungs is None or sweep.baseline not in rungs.rows:
    return None
  baseline = rungs.rows[sweep.baseline].method
  speedups = [
    _speedup(sweep, method, size, baseline)
    for method in rungs.methods
    for size in rungs.sizes
  ]
  trends = [
    _trend(sweep, [s for s in speedups if s.method == method], baseline)
    for method in rungs.methods
    if method != baseline
  ]
  return Ladder(baseline, tuple(speedups), tuple(_decided(trends)))


def _speedup(
  sweep: SweepRecord, method: str, size: str, baseline: str
) -> Speedup:
  """What the runs say of a method at a size; no factors of the baseline."""
  budgets = sweep.rungs.of(method)
  found = Speedup(
    method,
    size,
    _num_params(sweep, method, size),
    {b: _mean_loss(sweep, method, size, b) for b in budgets},
  )
  problem = _diverged(sweep, method, size) or (
    _diverged(sweep, baseline, size, f"the baseline {baseline} ")
  )
  seeds = _seeds(sweep, (method, baseline), [size])
  if not problem and not seeds:
    problem = "no seed has all of its runs yet"
  if problem:
    return dataclasses.replace(found, problem=problem)
  budgets_k = np.array(budgets, float)
  own = curve_lib.fit(
    budgets_k, _losses(sweep, method, size, seeds).mean(axis=0)[None]
  )
  found = dataclasses.replace(found, curve=own)
  logs_rk = _log_factors(sweep, method, size, baseline, seeds)
  if not np.isfinite(logs_rk[0]).all():
    return dataclasses.replace(found, problem=_beyond_reach(baseline))
  logs_k = logs_rk[0]
  needed_k = budgets_k * np.exp(logs_k)
  measured = sweep.rungs.of(baseline)
  # Rounding puts nothing beyond.
  low, high = measured[0] * (1 - 1e-6), measured[-1] * (1 + 1e-6)
  found = dataclasses.replace(
    found, factors=dict(zip(budgets, np.exp(logs_k).tolist(), strict=True))
  )
  if method == baseline:
    return found
  log = resample.estimate(
    float(logs_k.mean()), logs_rk[1:].mean(axis=1), len(seeds)
  )
  return dataclasses.replace(
    found,
    beyond=tuple(
      b
      for b, needed in zip(budgets, needed_k, strict=True)
      if not low <= needed <= high
    ),
    log=log,
    problem=_no_interval(log),
  )


def _trend(
  sweep: SweepRecord, speedups: Sequence[Speedup], baseline: str
) -> Trend:
  """The slope over sizes, from the seeds that have all of them."""
  method = speedups[0].method
  for each in speedups:
    if each.log is None:
      own = _diverged(sweep, method, each.size)
      return Trend(
        method,
        verdict=DIVERGED if own else UNDECIDED,
        problem=f"no speed-up at {each.size}: {each.problem}",
      )
    if each.num_params is None:
      return Trend(method, problem=f"no run of {each.size} says its parameters")
  sizes = [each.size for each in speedups]
  x_z = np.log([each.num_params for each in speedups])
  if np.ptp(x_z) == 0:
    return Trend(method, problem="all sizes have as many parameters")
  seeds = _seeds(sweep, (method, baseline), sizes)
  if not seeds:
    return Trend(method, problem="no seed has all of its runs yet")
  logs_rz = np.stack(
    [
      _log_factors(sweep, method, size, baseline, seeds).mean(axis=1)
      for size in sizes
    ],
    axis=1,
  )
  moved_z = x_z - x_z.mean()
  slopes_r = logs_rz @ moved_z / np.square(moved_z).sum()
  slope = resample.estimate(float(slopes_r[0]), slopes_r[1:], len(seeds))
  return Trend(
    method,
    slope=slope,
    p_value=slope.p_value(),
    p_same=_p_same(slope, math.log(SAME_FACTOR) / float(np.ptp(x_z))),
    problem=_no_interval(slope),
  )


def _p_same(slope: Estimate, margin: float) -> float | None:
  """Of a slope of at least the margin, either way: two one-sided tests."""
  above, below = slope.p_above(-margin), slope.p_above(margin)
  return None if above is None else max(above, 1 - below)


def _decided(trends: Sequence[Trend]) -> list[Trend]:
  """The trends with p-values adjusted for all methods, and verdicts."""
  # A method that has no trend is one that was asked, too.
  differ = statistics.holm([_or_one(trend.p_value) for trend in trends])
  same = statistics.holm([_or_one(trend.p_same) for trend in trends])
  return [
    trend
    if trend.p_value is None
    else dataclasses.replace(
      trend, p_holm=p, p_same_holm=p_same, verdict=_verdict(trend, p, p_same)
    )
    for trend, p, p_same in zip(trends, differ, same, strict=True)
  ]


def _or_one(p_value: float | None) -> float:
  return 1.0 if p_value is None else p_value


def _verdict(trend: Trend, p: float, p_same: float) -> str:
  if p < statistics.ALPHA:
    return GROWS if trend.slope.value > 0 else FADES
  return STAYS if p_same < statistics.ALPHA else UNDECIDED


def _log_factors(
  sweep: SweepRecord,
  method: str,
  size: str,
  baseline: str,
  seeds: Sequence[int],
) -> np.ndarray:
  """Log speed-ups (1 + r, k): of all seeds, and of each sample of them."""
  n = len(seeds)
  weights_rs = np.vstack([np.full(n, 1 / n), resample.samples(n)[0]])
  budgets_k = np.array(sweep.rungs.of(method), float)
  curves = curve_lib.fit(
    np.array(sweep.rungs.of(baseline), float),
    weights_rs @ _losses(sweep, baseline, size, seeds),
  )
  needed_rk = curves.budgets(weights_rs @ _losses(sweep, method, size, seeds))
  return np.log(needed_rk / budgets_k)


def _finals(
  sweep: SweepRecord, method: str, size: str, budget: int
) -> dict[int, Run]:
  label = sweep.rungs.row(method, size, budget)
  return {run.seed: run for run in sweep.finals(label)}


def _losses(
  sweep: SweepRecord, method: str, size: str, seeds: Sequence[int]
) -> np.ndarray:
  """Final losses (s, k)."""
  columns = [
    _finals(sweep, method, size, budget) for budget in sweep.rungs.of(method)
  ]
  return np.array(
    [[runs[seed].metric(sweep.metric) for runs in columns] for seed in seeds]
  )


def _seeds(
  sweep: SweepRecord, methods: Sequence[str], sizes: Sequence[str]
) -> list[int]:
  """Seeds that have a loss at every budget of these sizes."""
  found = []
  for method in methods:
    for size in sizes:
      for budget in sweep.rungs.of(method):
        runs = _finals(sweep, method, size, budget)
        found.append(
          {s for s, r in runs.items() if r.metric(sweep.metric) is not None}
        )
  return sorted(set.intersection(*found))


def _mean_loss(
  sweep: SweepRecord, method: str, size: str, budget: int
) -> float | None:
  """Over the seeds that are done; None where one diverged or none is done."""
  runs = _finals(sweep, method, size, budget).values()
  values = [run.metric(sweep.metric) for run in runs]
  known = [value for value in values if value is not None]
  lost = any(is_diverged(run, sweep.metric) for run in runs)
  return sum(known) / len(known) if known and not lost else None


def _diverged(sweep: SweepRecord, method: str, size: str, who: str = "") -> str:
  """As in "diverged 1 of 3 at 300 steps"; "" where none did."""
  said = []
  for budget in sweep.rungs.of(method):
    runs = _finals(sweep, method, size, budget).values()
    lost = sum(is_diverged(run, sweep.metric) for run in runs)
    if lost:
      said.append(
        f"diverged {lost} of {len(runs)} at {budget:,} {sweep.rungs.unit}"
      )
  return who + ", ".join(said) if said else ""


def _num_params(sweep: SweepRecord, method: str, size: str) -> int | None:
  for budget in sweep.rungs.budgets:
    for run in _finals(sweep, method, size, budget).values():
      count = run.result.get("num_params", run.record.get("num_params"))
      if count:
        return count
  return None


def _beyond_reach(baseline: str) -> str:
  return (
    f"the curve of {baseline} does not reach its loss: it flattens above it,"
    " or does not fall with the budget"
  )


def _no_interval(estimate: Estimate) -> str:
  if estimate.error is not None:
    return ""
  if estimate.n < 2:
    return "one seed: no interval"
  return (
    "no interval: of some draws of seeds the baseline's curve does not reach"
    " its loss"
  )


def _known(values_r: np.ndarray) -> float | None:
  return float(values_r[0]) if np.isfinite(values_r[0]) else None
