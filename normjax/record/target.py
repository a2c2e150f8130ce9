"""Steps or seconds to a target: metrics of any sweep, from its evaluations.

    steps_to(eval/loss<=2.0)      updates before the first evaluation that is so
    seconds_to(eval/accuracy>=0.9)  of training, without compilation and
                                  evaluation, until then

They are as fine as `evaluate.every_steps`. A run that ends without reaching its
target is censored: how long it would have taken is not known, only that it is
more than it had. So it is never left out of a mean: where one run of a method
has not reached the target, the method has no mean, and no difference; what is
told is how many reached it, and the median over all runs where more than half
did. A run that diverged has not reached it, whatever it saw before.
"""

import dataclasses
import math
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from normjax import errors
from normjax.record import probed

_WHAT = {"steps": "step", "seconds": "time_s"}  # Unit to key of a row.
_BEGIN = re.compile(r"\s*(\w+)_to\s*\(")
_FORM = re.compile(
  r"(steps|seconds)_to\((eval/[^<>=()\s]+)\s*(<=|>=)\s*([^()\s]+)\)"
)
Rows = Iterable[Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Target:
  """A metric that asks when another one is good enough.

  Attributes:
    name: as it was written.
    unit: "steps" or "seconds".
    measured: the metric of an evaluation, as in "eval/loss".
    at_most: whether the measured metric must be at most `value`, else at least.
    value: of the measured metric.
  """

  name: str
  unit: str
  measured: str
  at_most: bool
  value: float

  def reached(self, rows: Rows) -> float | None:
    """Steps or seconds at the first evaluation that is so; None: none is."""
    kind, _, metric = self.measured.partition("/")
    for row in rows:
      value = row.get(metric) if row["kind"] == kind else None
      if value is not None and (
        value <= self.value if self.at_most else value >= self.value
      ):
        return row.get(_WHAT[self.unit])
    return None


@dataclasses.dataclass(frozen=True)
class Reached:
  """How many of a method's runs reached a target.

  Attributes:
    count: of runs that reached it.
    of: runs that are over, diverged or not.
    median: of all; None where no more than half reached it.
  """

  count: int
  of: int
  median: float | None

  def __str__(self) -> str:
    """As in "3 of 5, median 120"."""
    median = "" if self.median is None else f", median {self.median:.4g}"
    return f"{self.count} of {self.of}{median}"


def parse(name: str) -> Target | None:
  """The target that a metric's name is, or None where it is another metric.

  Raises:
    UserError: it begins as a target does, and is none.
  """
  found = _FORM.fullmatch(name)
  begin = _BEGIN.match(name)
  if found is None:
    if begin is None:
      return None
  else:
    unit, measured, sign, text = found.groups()
    try:
      value = float(text)
    except ValueError:
      value = math.nan
    if math.isfinite(value):
      return Target(name, unit, measured, sign == "<=", value)
  raise errors.UserError(
    f"metric {name!r} is not steps_to(eval/METRIC<=NUMBER), nor"
    " seconds_to(…); >= is the other sign."
  )


def measured(name: str) -> str:
  """The metric that rows have: what a target or a probe's metric is made of."""
  if (goal := parse(name)) is not None:
    return goal.measured
  found = probed.parse(name)
  return name if found is None else f"probe/{found.probe}"


def add(
  result: Mapping[str, Any],
  names: Iterable[str],
  rows: Callable[[], Rows],
) -> Mapping[str, Any]:
  """A result with what its rows say more: targets and probes' metrics.

  Args:
    result: what `result.json` holds.
    names: metrics; others are left as they are.
    rows: gives the rows of the run, where they are needed.
  """
  names = tuple(names)
  targets = [found for name in names if (found := parse(name)) is not None]
  probes = [found for name in names if (found := probed.parse(name))]
  if not targets and not probes:
    return result
  read = list(rows())
  own: dict[str, float | None] = {t.name: t.reached(read) for t in targets}
  own |= {each.name: v for each in probes for v in each.values(read)}
  return {**result, "metrics": {**result["metrics"], **own}}


def reached(values: Sequence[float | None]) -> Reached:
  """How many runs reached a target.

  Args:
    values: of each run that is over; None where it did not.
  """
  known = [value for value in values if value is not None]
  # What is censored is larger than all that is known of it.
  every = [math.inf if value is None else value for value in values]
  median = statistics.median(every) if every else math.inf
  return Reached(
    len(known), len(values), median if math.isfinite(median) else None
  )
