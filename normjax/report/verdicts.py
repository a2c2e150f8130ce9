"""Verdicts: what the paired differences of a sweep allow to say.

A verdict is "better" or "worse" where the test of the paired differences says
so after Holm's adjustment for all methods that are compared with the baseline.
Divergence is a verdict of its own: the seeds that survive are no sample of all,
so nothing is tested on them. `Sweep.divergence = "worst"` tests all seeds of
all methods by ranks, in which a diverged run is the worst value that there is.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import NamedTuple

from normjax import statistics
from normjax.record.comparison import WORST
from normjax.report.load import SweepRecord
from normjax.report.samples import Sample, resolution
from normjax.statistics import ALPHA, Interval, Seeds

BETTER = "better"
WORSE = "worse"
SAME = "not distinguishable"
TOO_FEW = "too few results"
NOT_REACHED = "not all reached"
BASELINE = "baseline"
NO_BASELINE = ""
_DIVERGED = "diverged "
_BASELINE_DIVERGED = f"{BASELINE} diverged "
_NOT_TESTED = "not tested"
_WITH_TOO_FEW = f"with {TOO_FEW}"


@dataclasses.dataclass(frozen=True)
class Difference:
  """A method minus the baseline, over their common seeds.

  Attributes:
    interval: of the paired differences, in the metric's unit; unadjusted, and
      of survivors where runs diverged.
    p_value: two-sided, of the paired t-test, or of the exact signed-rank test
      where divergence ranks worst. None where n < 2, where runs diverged and
      that is a verdict, or where all differences are one number, so that
      their spread is not known.
    p_holm: the same, adjusted over all methods by Holm's method.
    seeds_needed: a range, see `statistics.seeds_needed`.
    sign: of the difference, as the test sees it.
    of_survivors: whether runs of either diverged, which the interval lacks.
  """

  interval: Interval
  p_value: float | None = None
  p_holm: float | None = None
  seeds_needed: Seeds | None = None
  sign: int = 0
  of_survivors: bool = False

  @property
  def is_constant(self) -> bool:
    """Whether all differences are one number, and not 0."""
    return bool(self.interval.sd == 0 and self.interval.mean)


class Compared(NamedTuple):
  """A method's difference to the baseline, and what it allows to say."""

  difference: Difference | None
  verdict: str
  verdict_uncorrected: str


def tone(verdict: str) -> str:
  """How a verdict is shown: "better", "worse", "baseline" or ""."""
  if verdict in (BETTER, WORSE):
    return verdict
  if verdict.startswith(_DIVERGED):
    return WORSE
  is_of_others = verdict.startswith(_BASELINE_DIVERGED)
  return BASELINE if verdict.startswith(BASELINE) and not is_of_others else ""


def kind(verdict: str) -> str:
  """What verdicts are counted by: a word without numbers."""
  if verdict.startswith(_DIVERGED):
    return _DIVERGED.strip()
  if verdict == TOO_FEW:
    return _WITH_TOO_FEW
  return _NOT_TESTED if verdict.startswith(_BASELINE_DIVERGED) else verdict


# In the order in which a summary counts them.
KINDS = (
  BETTER, WORSE, SAME, _DIVERGED.strip(), _NOT_TESTED, NOT_REACHED,
  _WITH_TOO_FEW,
)  # fmt: skip


def is_exact(sweep: SweepRecord) -> bool:
  """Whether verdicts are of the signed-rank test."""
  return sweep.divergence == WORST


def compare(
  sweep: SweepRecord, samples: Mapping[str, Sample]
) -> dict[str, Compared]:
  """The verdict of each method.

  All methods but the baseline are one family: those without a p-value, as
  where runs diverged or are yet to come, count as p = 1.

  Args:
    sweep: which method is the baseline, which side is better, the test.
    samples: by method.
  """
  step = resolution(sweep)
  beside = {label: sweep.baseline_of(label) for label in samples}
  others = [k for k, b in beside.items() if b in samples and b != k]
  found = {
    label: difference(
      sweep, samples[label], samples[beside[label]], len(others), step
    )
    for label in others
  }
  tested = [k for k, each in found.items() if each.p_value is not None]
  adjusted = statistics.holm([found[k].p_value for k in tested], len(found))
  for label, p_holm in zip(tested, adjusted, strict=True):
    found[label] = dataclasses.replace(found[label], p_holm=p_holm)
  compared = {}
  for label, own in samples.items():
    each = found.get(label)
    if each is None:
      word = _of_baseline(own) if label == beside[label] else NO_BASELINE
      compared[label] = Compared(None, word, word)
      continue
    words = [
      _word(sweep, own, samples[beside[label]], each, p)
      for p in (each.p_holm, each.p_value)
    ]
    compared[label] = Compared(each, *words)
  return compared


def difference(
  sweep: SweepRecord,
  own: Sample,
  other: Sample,
  num_comparisons: int = 1,
  step: float = 0.0,
) -> Difference:
  """One method minus another, and the test of it.

  Args:
    sweep: which side is better, and the test.
    own: the method.
    other: the method that it is compared with.
    num_comparisons: of the family; seeds are counted for its first step.
    step: see `resolution`.
  """
  interval = statistics.paired_interval(own.values, other.values, step)
  sign = int(math.copysign(1, interval.mean)) if interval.mean else 0
  lost = bool(own.diverged or other.diverged)
  if is_exact(sweep):
    ranked = _ranked(sweep, own, other)
    if len(ranked) < 2 or own.censored or other.censored:
      return Difference(interval, sign=sign, of_survivors=lost)
    test = statistics.signed_rank(ranked)
    return Difference(interval, test.p_value, sign=test.sign, of_survivors=lost)
  if lost:
    return Difference(interval, sign=sign, of_survivors=True)
  return Difference(
    interval,
    statistics.t_test(interval),
    seeds_needed=statistics.seeds_needed(interval, num_comparisons),
    sign=sign,
  )


def _ranked(sweep: SweepRecord, own: Sample, other: Sample) -> list[float]:
  """Differences over the common seeds; a diverged run is infinitely bad.

  Where both diverged they are equal: 0.
  """
  worst = math.inf if sweep.mode == "min" else -math.inf
  mine, theirs = own.scored(worst), other.scored(worst)
  return [
    0.0 if mine[seed] == theirs[seed] else mine[seed] - theirs[seed]
    for seed in sorted(mine.keys() & theirs.keys())
  ]


def _of_baseline(own: Sample) -> str:
  said = f" ({_DIVERGED}{own.divergence})" if own.diverged else ""
  return f"{BASELINE}{said}"


def _word(
  sweep: SweepRecord,
  own: Sample,
  baseline: Sample,
  each: Difference,
  p_value: float | None,
) -> str:
  """The verdict, by a p-value that is adjusted or is not."""
  decided = p_value is not None and p_value < ALPHA
  word = SAME
  if decided:
    is_better = (each.sign < 0) == (sweep.mode == "min")
    word = BETTER if is_better else WORSE
  # By ranks, divergence is in the test; it may count against a method only.
  by_rank = p_value is not None and is_exact(sweep)
  if own.diverged and not (by_rank and word == WORSE):
    text = f"{_DIVERGED}{own.divergence}"
    more = f" ({BASELINE} {baseline.divergence})"
    return text + (more if baseline.diverged else "")
  if baseline.diverged and not by_rank:
    return f"{_BASELINE_DIVERGED}{baseline.divergence}"
  if p_value is None and not each.is_constant:
    return NOT_REACHED if own.censored or baseline.censored else TOO_FEW
  return word


def repeated_folds(sweep: SweepRecord) -> tuple[int, int] | None:
  """Final seeds and folds, where there are more seeds; None: there are not."""
  known = {
    run.seed: run.fold
    for run in sweep.runs
    if run.stage == "final" and run.fold is not None
  }
  seeds, folds = len(known), len(set(known.values()))
  return (seeds, folds) if folds < seeds else None


def planned_seeds(sweep: SweepRecord) -> int:
  """Final seeds per method; folds, where seeds have them in common.

  Plans of earlier versions know the runs that are planned so far alone.
  """
  planned = (len(sweep.finals(method.label)) for method in sweep.methods)
  repeated = repeated_folds(sweep)
  return (
    repeated[1] if repeated else (sweep.num_seeds or max(planned, default=0))
  )


def attainable(sweep: SweepRecord) -> statistics.Attainable | None:
  """What the plan's seeds can decide; None where nothing is compared yet."""
  labels = [method.label for method in sweep.methods]
  num_seeds = planned_seeds(sweep)
  if sweep.baseline not in labels or len(labels) < 2 or not num_seeds:
    return None
  num_comparisons = len(labels) - 1
  if sweep.rungs is not None:
    num_comparisons = sweep.rungs.num_comparisons
  return statistics.attainable(
    num_seeds, num_comparisons, exact=is_exact(sweep)
  )


class Best(NamedTuple):
  """The method with the best mean, and those it cannot be told from.

  Attributes:
    label: of the method.
    others: labels of the methods that it was compared with, the second first.
    undecided: of these, those that it is not distinguishable from.
    tested: whether it has the two values that a test needs.
  """

  label: str
  others: tuple[str, ...]
  undecided: tuple[str, ...]
  tested: bool


def best(sweep: SweepRecord, samples: Mapping[str, Sample]) -> Best | None:
  """The method with the best mean, of those without a diverged run.

  It is tested against every other one, paired, with Holm's adjustment for
  their number. That the method was picked by its mean costs nothing more: to be
  called best it has to beat the second, and a two-sided test of the first
  against the second is valid after the pick (Hung and Fithian,
  arXiv:1610.03944: of equal variances; where they are not, the adjustment and
  the other tests are still to be passed).

  Returns:
    None where no method has a value.
  """
  whole = {k: s for k, s in samples.items() if s.values and not s.diverged}
  sign = 1 if sweep.mode == "min" else -1
  order = sorted(
    whole, key=lambda k: sign * math.fsum(whole[k].values.values())
    / len(whole[k].values)
  )  # fmt: skip
  if not order:
    return None
  first, *others = order
  step = resolution(sweep)
  p_values = {
    label: difference(sweep, whole[first], whole[label], step=step).p_value
    for label in others
  }
  tested = [label for label in others if p_values[label] is not None]
  adjusted = statistics.holm([p_values[k] for k in tested], len(others))
  sure = {k for k, p in zip(tested, adjusted, strict=True) if p < ALPHA}
  return Best(
    first,
    tuple(others),
    tuple(label for label in others if label not in sure),
    bool(tested),
  )
