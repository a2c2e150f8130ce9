"""What the measured values say of each statement.

A statement bounds a weighted sum of cells. Its sum is formed seed by seed over
all of its terms, so that what seeds share cancels, and two tests are made of
its mean mu, each bound one-sided at half of alpha, as by a 95% t-interval:

    confirmed      rejects "mu lies outside": the interval lies inside
    contradicted   rejects "mu lies inside": the interval lies outside

The p-value of a statement is the smaller one. It holds its level wherever mu
is: off the bounds one of the two verdicts alone is wrong, and on a bound both
are, but each then needs |t| at that bound above the two-sided quantile. So
Holm's adjustment keeps the rate of tables with any wrong verdict below 5% where
all statements have mu on a bound, however they share cells. Where some have
not, it is Holm's test with directions: shown for independent statements
(Shaffer, Annals of Statistics 8, 1980, 1342), simulated for shared cells in
this module's test.

What no chance is in needs no test and takes no part in the adjustment: a
statement of an exact value, of divergence, or of computed values alone.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import special

from normjax import papers, statistics
from normjax.papers.kept import CONFIRMED, CONTRADICTED, UNDECIDED
from normjax.papers.statements import DIVERGENCE, Expected, Ref, shown
from normjax.report.paper.measure import Measured
from normjax.statistics import ALPHA, Interval

_RELATIVE = 1e-6  # Equal numbers that are not whole: what float32 lets be told.


@dataclasses.dataclass(frozen=True)
class Statement:
  """A statement and what became of it.

  Attributes:
    interval: of the weighted sum over the common seeds, unadjusted; of a
      statement on divergence, of the share of runs.
    p_value: the smaller one of the two tests; None where nothing is tested.
    p_holm: adjusted over the table's statements that need a test.
    reason: why it is undecided, or by what it was decided where not by a test.
  """

  expected: Expected
  interval: Interval
  verdict: str = UNDECIDED
  p_value: float | None = None
  p_holm: float | None = None
  reason: str = ""


@dataclasses.dataclass(frozen=True)
class _Test:
  """The two p-values of a statement."""

  confirm: float
  contradict: float

  @property
  def p_value(self) -> float:
    return min(self.confirm, self.contradict)

  @property
  def verdict(self) -> str:
    return CONFIRMED if self.confirm < self.contradict else CONTRADICTED


def judge(
  table: papers.Table, measured: Mapping[Ref, Measured]
) -> tuple[Statement, ...]:
  """The verdict on each statement of a table.

  Those that need a test and have none yet, as where runs are missing or
  diverged, count as p = 1.
  """
  judged = []
  tests: dict[int, _Test] = {}
  num_tested = 0
  for index, expected in enumerate(table.expected):
    cells = {ref: measured[ref] for ref in expected.terms}
    found, test = _judge(expected, cells)
    judged.append(found)
    num_tested += not (_is_exact(expected) or _is_fact(cells))
    if test is not None:
      tests[index] = test
  p_values = [test.p_value for test in tests.values()]
  adjusted = statistics.holm(p_values, num_tested)
  for (index, test), p_holm in zip(tests.items(), adjusted, strict=True):
    judged[index] = dataclasses.replace(
      judged[index],
      p_value=test.p_value,
      p_holm=p_holm,
      verdict=test.verdict if p_holm < ALPHA else UNDECIDED,
      reason=_undecided(num_tested, test, p_holm),
    )
  return tuple(judged)


def _is_exact(expected: Expected) -> bool:
  """Whether a statement is about every run, and none about a mean."""
  return expected.of == DIVERGENCE or expected.at_least == expected.at_most


def _is_fact(cells: Mapping[Ref, Measured]) -> bool:
  """Whether no chance is in the values: computed, each one number."""
  return all(
    each.computed and not each.diverged and len(set(each.values.values())) == 1
    for each in cells.values()
  )


def _judge(
  expected: Expected, cells: Mapping[Ref, Measured]
) -> tuple[Statement, _Test | None]:
  """A statement without its adjustment, and its test where it needs one."""
  missing = _missing(cells)
  if expected.of == DIVERGENCE:
    if missing:
      return Statement(expected, Interval(0), reason=missing), None
    return _of_divergence(expected, cells), None
  if reason := missing or _lost(cells):  # No mean of a part, nor of survivors.
    return Statement(expected, Interval(0), reason=reason), None
  interval, sums = _sum(expected, cells)
  reason = _unusable(interval, sums, cells)
  if reason:
    return Statement(expected, interval, reason=reason), None
  if expected.at_least == expected.at_most:
    return _of_runs(expected, interval, sums), None
  if _is_fact(cells):
    verdict, reason = _compared(expected, sums[0])
    return Statement(expected, interval, verdict, reason=reason), None
  if interval.n < 2:
    reason = "1 seed, a test needs 2"
    return Statement(expected, interval, reason=reason), None
  test = _test(expected, interval)
  if test is None:
    reason = "the same number in every run: its spread is not known"
    return Statement(expected, interval, reason=reason), None
  return Statement(expected, interval), test


def _missing(cells: Mapping[Ref, Measured]) -> str:
  """What runs are to come; "" where all are over."""
  for ref, each in cells.items():
    if not each.num_planned:
      return f"{shown(ref)} was not run"
    if not each.is_complete:
      return f"{shown(ref)}: {each.num_over} of {each.num_planned} runs"
  return ""


def _lost(cells: Mapping[Ref, Measured]) -> str:
  """Which cells lack values that a statement on values needs; "": none."""
  lost = [
    f"{shown(ref)} diverged {len(each.diverged)} of {each.num_over}"
    for ref, each in cells.items()
    if each.diverged
  ]
  lost += [
    f"{shown(ref)} was not reached in every run"
    for ref, each in cells.items()
    if each.censored
  ]
  return ", ".join(lost)


def _sum(
  expected: Expected, cells: Mapping[Ref, Measured]
) -> tuple[Interval, list[float]]:
  """The weighted sum over the common seeds: its interval, its values.

  What was computed once has that value for every seed.
  """
  constants = {ref: each.constant for ref, each in cells.items()}
  varied = [set(c.values) for ref, c in cells.items() if constants[ref] is None]
  seeds = set.intersection(*varied) if varied else {0}
  terms = []
  for ref, weight in expected.terms.items():
    fixed = constants[ref]
    values = cells[ref].values if fixed is None else dict.fromkeys(seeds, fixed)
    terms.append((weight, values))
  least_sd = statistics.weighted_resolution_sd(
    list(expected.terms.values()), [cells[ref].resolution for ref in cells]
  )
  with np.errstate(over="ignore", invalid="ignore"):
    interval = statistics.sum_interval(terms, least_sd)
  sums = [sum(w * values[s] for w, values in terms) for s in sorted(seeds)]
  return interval, sums


def _unusable(
  interval: Interval, sums: Sequence[float], cells: Mapping[Ref, Measured]
) -> str:
  """Why nothing can be said of a sum; "" where something can."""
  if not sums:
    return f"{' and '.join(map(shown, cells))} have no seed in common"
  if not all(map(math.isfinite, (*sums, interval.mean, interval.sd or 0.0))):
    return "its numbers are too large"
  return ""


def _of_divergence(
  expected: Expected, cells: Mapping[Ref, Measured]
) -> Statement:
  """All runs must agree with it, or none."""
  seeds = sorted(set.intersection(*(set(c.seeds) for c in cells.values())))
  sums = [
    sum(w * (seed in cells[ref].diverged) for ref, w in expected.terms.items())
    for seed in seeds
  ]
  if not sums:
    reason = f"{' and '.join(map(shown, cells))} have no seed in common"
    return Statement(expected, Interval(0), reason=reason)
  return _by_runs(
    expected, Interval(len(sums), math.fsum(sums) / len(sums)),
    [_holds(expected, each) for each in sums],
  )  # fmt: skip


def _holds(expected: Expected, value: float) -> bool:
  low, high = expected.at_least, expected.at_most
  return (low is None or value >= low) and (high is None or value <= high)


def _of_runs(
  expected: Expected, interval: Interval, sums: Sequence[float]
) -> Statement:
  """A statement of an exact value: confirmed where every run has it.

  A whole number that was measured has to be the value itself, as a count has;
  any other one has to be within 1e-6 of it, of what float32 can tell.
  """
  value = expected.at_least or 0.0
  equal = [
    math.isclose(
      each, value, rel_tol=0.0 if float(each).is_integer() else _RELATIVE
    )
    for each in sums
  ]
  found = _by_runs(expected, interval, equal)
  if found.verdict == UNDECIDED:  # Said of every run: one that lacks it is all.
    found = dataclasses.replace(found, verdict=CONTRADICTED)
  return found


def _by_runs(
  expected: Expected, interval: Interval, agree: Sequence[bool]
) -> Statement:
  """Confirmed where all runs agree, contradicted where none does.

  Of "diverges in no run" one of five that did is neither: a paper's sentence is
  about what a method does as a rule, and five seeds leave open whether its
  share is 1% or 70%. The reason says how many.
  """
  verdict = UNDECIDED
  if all(agree) or not any(agree):
    verdict = CONFIRMED if agree[0] else CONTRADICTED
  reason = f"in {sum(agree)} of {len(agree)} runs"
  return Statement(expected, interval, verdict, reason=reason)


def _compared(expected: Expected, value: float) -> tuple[str, str]:
  """A number that no chance is in, against the bounds."""
  sides = [
    math.copysign(1, gap) if gap else 0
    for gap in (
      1.0 if expected.at_least is None else value - expected.at_least,
      1.0 if expected.at_most is None else expected.at_most - value,
    )
  ]
  if min(sides) < 0:
    return CONTRADICTED, "computed, no test"
  if min(sides) == 0:
    return UNDECIDED, "computed, exactly on the bound"
  return CONFIRMED, "computed, no test"


def _test(expected: Expected, interval: Interval) -> _Test | None:
  """The two tests of a mean; None where its spread is not known."""
  if not interval.sd:
    return None
  error = interval.sd / math.sqrt(interval.n)
  above = []  # One-sided p-values of lying inside of each bound, and outside.
  for bound, sign in ((expected.at_least, 1), (expected.at_most, -1)):
    if bound is not None:
      t = sign * (interval.mean - bound) / error
      above.append((
        float(special.stdtr(interval.n - 1, -t)),
        float(special.stdtr(interval.n - 1, t)),
      ))  # fmt: skip
  confirm = max(inside for inside, _ in above)
  contradict = min(outside for _, outside in above)
  return _Test(min(1.0, 2 * confirm), min(1.0, 2 * contradict))


def _undecided(num_tested: int, test: _Test, p_holm: float) -> str:
  """Why a tested statement is undecided; "" where it is not."""
  if p_holm < ALPHA:
    return ""
  if test.p_value < ALPHA:
    return f"by the adjustment for {num_tested} statements alone"
  return "its interval lies on both sides of a bound"


def num_tests(table: papers.Table) -> int:
  """How many statements of a table are of a mean over seeds."""
  return sum(
    not _is_exact(expected)
    and any(table.cell(r).part != papers.MEASURE for r in expected.terms)
    for expected in table.expected
  )
