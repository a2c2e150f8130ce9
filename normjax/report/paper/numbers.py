"""The paper's number beside the measured one.

At the paper's own scale a cell with a number agrees with it, or differs: where
the 95% t-interval of the measured mean, widened by the plus-minus that the
paper prints and by half of its last digit, leaves the number out, adjusted by
Holm over the table's cells. At any other scale nothing is said of numbers.
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
from scipy import special

from normjax import papers, statistics
from normjax.papers import targets
from normjax.papers.printed import Number, Targets
from normjax.papers.statements import Ref
from normjax.report.paper.measure import Measured
from normjax.statistics import ALPHA, Interval

AGREES, DIFFERS = "agrees", "differs"
ONE_RUN, NO_SPREAD = "one run", "no spread known"
_RELATIVE = 1e-6


@dataclasses.dataclass(frozen=True)
class Beside:
  """A cell: what was measured, and what the paper printed.

  Attributes:
    interval: of the mean over seeds.
    number: the paper's; None where it has none, or none that is verified.
    unverified: whether there is one that is not printed.
    difference: measured minus the paper's, at the paper's scale; None
      elsewhere, and where one of both is missing.
    verdict: at the paper's scale; "" elsewhere and where nothing is compared.
    p_holm: adjusted over the cells; None where nothing is tested.
  """

  cell: papers.Cell
  measured: Measured
  interval: Interval
  number: Number | None
  unverified: bool = False
  difference: float | None = None
  verdict: str = ""
  p_holm: float | None = None


def beside(
  table: papers.Table,
  scale: str,
  measured: Mapping[Ref, Measured],
  printed: Targets,
) -> tuple[Beside, ...]:
  """Each cell of a table with the paper's number.

  Raises:
    UserError: the targets lack a number that a cell asks for.
  """
  found = []
  for cell in table.cells:
    own = measured[cell.ref]
    where = targets.place(table, cell)
    number = None if where is None else printed.number(*where)
    with np.errstate(over="ignore", invalid="ignore"):
      interval = statistics.mean_interval(
        list(own.values.values()), own.resolution / math.sqrt(12)
      )
    found.append(
      Beside(cell, own, interval, number, where is not None and number is None)
    )
  return _compared(table, found) if scale == "paper" else tuple(found)


def _compared(table: papers.Table, cells: list[Beside]) -> tuple[Beside, ...]:
  """The cells with their verdicts, adjusted for how many there are."""
  p_values: dict[int, float] = {}
  num_tested = 0
  found = list(cells)
  for index, each in enumerate(cells):
    if each.number is None or each.number.value is None:
      continue
    is_fact = each.measured.computed and not each.interval.sd
    num_tested += not is_fact
    value, slack = _in_units(table, each.number)
    mean = each.interval.mean
    own = each.measured
    if own.num_planned and own.diverged:
      said = f"diverged {len(own.diverged)} of {own.num_over}"
    elif not own.is_complete:
      said = f"{own.num_over} of {own.num_planned} runs" * bool(own.num_planned)
    elif own.censored:
      said = "not reached"
    elif mean is None or not math.isfinite(mean):
      said = ""
    else:
      gap = mean - value
      said, p_value = _said(each, abs(gap), slack, abs(value))
      each = dataclasses.replace(each, difference=gap)
      if p_value is not None:
        p_values[index] = p_value
    found[index] = dataclasses.replace(each, verdict=said)
  adjusted = statistics.holm(list(p_values.values()), num_tested)
  for index, p_holm in zip(p_values, adjusted, strict=True):
    word = DIFFERS if p_holm < ALPHA else AGREES
    found[index] = dataclasses.replace(
      found[index], verdict=word, p_holm=p_holm
    )
  return tuple(found)


def _in_units(table: papers.Table, number: Number) -> tuple[float, float]:
  """A paper's number and its slack in the units of the cells.

  A percentage is taken as a fraction, unless the table's units are "%".
  """
  factor = 0.01 if number.is_percent and table.units != "%" else 1.0
  slack = (number.pm or 0.0) + number.rounding
  return factor * float(number.value or 0.0), factor * slack


def _said(
  each: Beside, gap: float, slack: float, size: float
) -> tuple[str, float | None]:
  """A verdict that needs no test, or "" with the p-value of its test."""
  interval = each.interval
  exact = gap <= slack + _RELATIVE * size
  if each.measured.computed and not interval.sd:
    return (AGREES if exact else DIFFERS), None
  if interval.n < 2:
    return ONE_RUN, None
  if not interval.sd:
    return (AGREES if exact else NO_SPREAD), None
  t = (gap - slack) / (interval.sd / math.sqrt(interval.n))
  return "", min(1.0, 2 * float(special.stdtr(interval.n - 1, -t)))
