"""A ladder as a table of text, as CSV, and in sentences."""

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from normjax.report import ladder as ladder_lib
from normjax.report.formats import encodable
from normjax.report.ladder import Ladder, Speedup, Trend
from normjax.report.load import SweepRecord
from normjax.report.resample import Estimate
from normjax.report.tables import NOTHING, Cell, Column, Table, show_p

BEYOND_MARK = "*"
# Slopes are told per tenfold parameters.
_TENFOLD = math.log(10)
# A factor of 1% is no misfit to speak of.
_MISFIT = math.log(1.01)


def build(sweep: SweepRecord, ladder: Ladder) -> Table:
  """A line per method and size."""
  rungs = sweep.rungs
  columns = (
    Column("method", "method", numeric=False),
    Column("size", "size", numeric=False),
    Column("num_params", "params"),
    *(
      Column(f"loss_{b}", f"{sweep.metric} ↓ at {b:,} {rungs.unit}")
      for b in rungs.all_budgets
    ),
    Column("speedup", f"speed-up over {ladder.baseline} (95% CI)"),
    Column(
      "factors", f"speed-up at {', '.join(f'{b:,}' for b in rungs.budgets)}"
    ),
    Column("slope", "speed-up per 10 × params: times (95% CI)"),
    Column("p_holm", "p (Holm)"),
    Column("trend", "trend", numeric=False),
  )
  trends = {trend.method: trend for trend in ladder.trends}
  rows = [
    _cells(sweep, each, trends.get(each.method)) for each in ladder.speedups
  ]
  return Table(
    columns,
    tuple(tuple(row[c.key] for c in columns) for row in rows),
    tuple(_notes(sweep, ladder)),
  )


def _cells(
  sweep: SweepRecord, each: Speedup, trend: Trend | None
) -> dict[str, Cell]:
  budgets = sweep.rungs.all_budgets
  value = None if each.log is None else math.exp(each.log.value)
  slope = trend.slope if trend else None
  return {
    "method": Cell(each.method, each.method),
    "size": Cell(each.size, each.num_params or each.size),
    "num_params": Cell(
      f"{each.num_params:,}" if each.num_params else NOTHING, each.num_params
    ),
    "speedup": Cell(_factor(each.log), value),
    "factors": Cell(
      ", ".join(
        f"{factor:.2f}{BEYOND_MARK if b in each.beyond else ''}"
        for b, factor in each.factors.items()
        if b in sweep.rungs.budgets
      )
      or NOTHING,
      value,
    ),
    "slope": Cell(
      _factor(slope, _TENFOLD), math.exp(slope.value) if slope else None
    ),
    "p_holm": Cell(show_p(trend.p_holm if trend else None), None),
    "trend": Cell(trend.verdict if trend else "baseline", None),
  } | {
    f"loss_{b}": Cell(
      NOTHING if each.losses.get(b) is None else f"{each.losses[b]:.3f}",
      each.losses.get(b),
    )
    for b in budgets
  }


def _factor(log: Estimate | None, times: float = 1.0) -> str:
  """A factor and its interval, from the logarithm."""
  if log is None:
    return NOTHING
  text = f"{math.exp(times * log.value):.2f}"
  if log.low is None:
    return text
  low, high = math.exp(times * log.low), math.exp(times * log.high)
  return f"{text} [{low:.2f}, {high:.2f}]"


def findings(ladder: Ladder) -> list[str]:
  """Of each method, what becomes of its speed-up with size."""
  lines = []
  for trend in ladder.trends:
    own = [s for s in ladder.speedups if s.method == trend.method]
    known = [s for s in own if s.log is not None]
    if not known:
      lines.append(
        f"Speed-up of {trend.method} over {ladder.baseline}:"
        f" {trend.verdict}; {trend.problem}."
      )
      continue
    said = ", ".join(f"{_factor(s.log)} at {s.size}" for s in known)
    word = {
      ladder_lib.GROWS: "it grows with size",
      ladder_lib.FADES: "it fades with size",
      ladder_lib.STAYS: "it stays over the sizes",
      ladder_lib.DIVERGED: f"it diverged ({trend.problem})",
    }.get(trend.verdict, "whether it goes with size is not decided")
    lines.append(
      f"Speed-up of {trend.method} over {ladder.baseline}: {said}; {word}."
    )
  return lines


def _notes(sweep: SweepRecord, ladder: Ladder) -> list[str]:
  rungs = sweep.rungs
  sizes = len(rungs.sizes)
  curve = (
    "a curve L(D) = E + B D^-beta that is fitted to its losses at a size"
    if len(rungs.of(ladder.baseline)) > 2
    else "a line through its two losses at a size over log D"
  )
  notes = [
    f"Speed-up: the {rungs.unit} that {ladder.baseline} needs for the loss that"
    f" the method has, by {curve}, over the {rungs.unit} that the method used;"
    " the geometric mean over the budgets, with its 95% bootstrap t-interval"
    " over seeds, the same seeds for both. Intervals are not adjusted for their"
    " number."
  ]
  first, *_, last = rungs.of(ladder.baseline)
  if times := _beyond(sweep, ladder):
    notes.append(
      f"{BEYOND_MARK} Extrapolated: {ladder.baseline} would need less or more"
      f" than the {first:,} to {last:,} {rungs.unit}"
      f" that it was trained for, at most by a factor {times:.2g}. No interval"
      " shows what the form of the curve does there: more budgets of the"
      " baseline would (Ladder.baseline_budgets)."
    )
  change = f"{ladder_lib.SAME_FACTOR - 1:.0%}"
  notes.append(
    "Trend: the slope of log speed-up over log parameters, embeddings included,"
    f" over {sizes} sizes; grows or fades where it is not 0, stays where the"
    f" speed-up changes by less than {change} from the smallest to the largest,"
    f" each at 5% after adjustment for {len(ladder.trends)}"
    f" method{'s' * (len(ladder.trends) != 1)} (Holm); else not decided."
  )
  own = [s for s in ladder.speedups if s.method == ladder.baseline]
  misfit = max(
    (abs(math.log(f)) for s in own for f in s.factors.values()), default=0.0
  )
  if misfit > _MISFIT:
    notes.append(
      f"The curve of {ladder.baseline} misses its own losses by a factor of up"
      f" to {math.exp(misfit):.2f} in {rungs.unit} (its rows): a speed-up as"
      " near to 1 as that means nothing."
    )
  notes += [
    f"{each.method} at {each.size}: {each.problem}."
    for each in ladder.speedups
    if each.problem
  ]
  notes += [
    f"Trend of {trend.method}: {trend.problem}."
    for trend in ladder.trends
    if trend.problem
  ]
  return list(dict.fromkeys(notes))


def _beyond(sweep: SweepRecord, ladder: Ladder) -> float:
  """The largest factor by which a budget is extrapolated; 0 where none is."""
  first, *_, last = sweep.rungs.of(ladder.baseline)
  needed = [
    each.factors[budget] * budget
    for each in ladder.speedups
    for budget in each.beyond
  ]
  return max([max(first / n, n / last) for n in needed], default=0.0)


def limits(sweep: SweepRecord) -> list[str]:
  """What a ladder cannot say."""
  rungs = sweep.rungs
  size, budget = rungs.tuned_at
  tuned = "tuned" if sweep.tuned_keys else "those of the config"
  return [
    f"Values are {tuned} at size {size} and {budget:,} {rungs.unit}; at all"
    " other rungs they are carried there by a rule. A speed-up that grows or"
    " fades may be the rule's doing: to know, tune at another size too."
  ]


def comma_separated(sweep: SweepRecord, ladder: Ladder) -> str:
  """Unrounded numbers, a line per method and size; what is unknown is empty."""
  trends = {trend.method: trend for trend in ladder.trends}
  rows = [
    _record(sweep, ladder, each, trends.get(each.method))
    for each in ladder.speedups
  ]
  file = io.StringIO()
  writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
  writer.writeheader()
  writer.writerows(
    {key: encodable(value) for key, value in row.items()} for row in rows
  )
  return file.getvalue()


def _record(
  sweep: SweepRecord, ladder: Ladder, each: Speedup, trend: Trend | None
) -> dict[str, Any]:
  budgets: Sequence[int] = sweep.rungs.all_budgets
  return {
    "method": each.method,
    "size": each.size,
    "num_params": each.num_params,
    "metric": sweep.metric,
    "unit": sweep.rungs.unit,
    "baseline": ladder.baseline,
    **{f"loss_{b}": each.losses.get(b) for b in budgets},
    "floor": each.floor,
    "exponent": each.exponent,
    **{f"speedup_{b}": each.factors.get(b) for b in budgets},
    **{
      f"extrapolated_{b}": b in each.beyond if b in each.factors else None
      for b in budgets
    },
    "seeds": each.log.n if each.log else None,
    **_ends("speedup", each.log),
    **_ends("per_tenfold_params", trend.slope if trend else None, _TENFOLD),
    "p_value": trend.p_value if trend else None,
    "p_value_holm": trend.p_holm if trend else None,
    "p_value_same_holm": trend.p_same_holm if trend else None,
    "trend": trend.verdict if trend else "baseline",
    "problem": each.problem or (trend.problem if trend else "") or None,
  }


def _ends(
  name: str, log: Estimate | None, times: float = 1.0
) -> dict[str, float | None]:
  ends = (None,) * 3 if log is None else (log.value, log.low, log.high)
  keys = (name, f"{name}_ci95_low", f"{name}_ci95_high")
  return {
    key: None if end is None else math.exp(times * end)
    for key, end in zip(keys, ends, strict=True)
  }
