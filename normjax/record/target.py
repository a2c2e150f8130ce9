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

What `log.probes` measured is a metric, too, from the rows in the same way:

    last(scale/final_norm/scale/rms)  of the last training row
"""

import dataclasses
import math
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from normjax import errors

_WHAT = {"steps": "step", "seconds": "time_s"}  # Unit to key of a row.
_BEGIN = re.compile(r"\s*(\w+)_to\s*\(")
_FORM = re.compile(
  r"(steps|seconds)_to\((eval/[^<>=()\s]+)\s*(<=|>=)\s*([^()\s]+)\)"
)
_LAST = re.compile(r"last\((.+)\)")
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
  """The metric that results have: a target's measured one, else the name."""
  found = parse(name)
  return name if found is None else found.measured


def last(probe: str) -> str:
  """The metric that is the last value of a probe."""
  return f"last({probe})"


def _last_value(probe: str, rows: Sequence[Mapping[str, Any]]) -> float | None:
  """Of the last row that has the probe; None: none has, or it is not finite."""
  for row in reversed(rows):
    if row["kind"] == "probe" and probe in row:
      return row[probe]
  return None


def add(
  result: Mapping[str, Any],
  names: Iterable[str],
  rows: Callable[[], Rows],
) -> Mapping[str, Any]:
  """A result with what the names ask of the rows as metrics of its own.

  Args:
    result: what `result.json` holds.
    names: metrics; those that are neither targets nor last values of probes are
      left as they are.
    rows: gives the rows of the run, where they are needed.
  """
  names = tuple(names)
  targets = [found for name in names if (found := parse(name)) is not None]
  lasts = {name: found[1] for name in names if (found := _LAST.fullmatch(name))}
  if not targets and not lasts:
    return result
  read = list(rows())
  own = {each.name: each.reached(read) for each in targets}
  own |= {name: _last_value(probe, read) for name, probe in lasts.items()}
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
