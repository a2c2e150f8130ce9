"""A judged table as text: its cells, its statements, and the notes to both."""

import math
from collections.abc import Sequence

from normjax import papers
from normjax.papers.printed import Number
from normjax.papers.statements import DIVERGENCE, Expected
from normjax.report import tables, verdicts
from normjax.report.notes import DIVERGED_MARK, EDGE_MARK
from normjax.report.paper import footnotes, numbers
from normjax.report.paper.judged import Judged
from normjax.report.paper.numbers import Beside
from normjax.report.paper.statements import Statement
from normjax.report.tables import NOTHING, Cell, Column, Table
from normjax.statistics import Interval

VERDICT = "Verdict: "
UNVERIFIED = "unverified: not printed"
# What a narrow terminal shows, the first the longest.
CELLS_MATTER = (
  "row", "column", "paper", "measured", "verdict", "difference", "interval",
  "n",
)  # fmt: skip
STATEMENTS_MATTER = (
  "claim",
  "verdict",
  "sum",
  "bound",
  "p_holm",
  "n",
  "source",
)
_TONES = {
  "confirmed": verdicts.BETTER,
  "contradicted": verdicts.WORSE,
  numbers.AGREES: verdicts.BETTER,
  numbers.DIFFERS: verdicts.WORSE,
}


def tone(text: str) -> str:
  """How a verdict is shown: as good news, as bad, or as neither."""
  return _TONES.get(text.partition(" ")[0].rstrip(","), "")


def title(judged: Judged) -> str:
  """As in "SELU by depth, at proxy scale"."""
  return f"{judged.table.title}, at {judged.scale} scale"


def lead(judged: Judged) -> list[str]:
  """The first sentences: the verdict, and what every number is short of."""
  paper = judged.printed
  number = f", arXiv:{paper.arxiv}" if paper.arxiv else ""
  where = f", {judged.table.target}" if judged.table.target else ""
  lines = [
    *judged.head,
    f"{VERDICT}{_summary(judged)}.",
    f"Paper: {paper.title}{number}{where}.",
    f"Otherwise than the paper: {footnotes.sentence(judged.table.differs)}",
    *judged.unlike,
  ]
  if judged.untuned:
    trained = [part for part in judged.table.parts if part != papers.MEASURE]
    parts = "" if len(trained) == 1 else f" ({', '.join(judged.untuned)})"
    lines.append(
      f"Untuned{parts}: rates were fixed beforehand, none was searched for."
    )
  return lines


def _summary(judged: Judged) -> str:
  """The verdict; none of runs that the statements are not about."""
  if judged.head and not judged.statements:
    return "none, as what was stated is not about these runs"
  return judged.summary


def cells(judged: Judged) -> Table:
  """The table: one line per cell."""
  is_paper = judged.scale == "paper"
  every = judged.cells
  columns = [
    Column("row", "row", numeric=False),
    *(
      [Column("column", "column", numeric=False)]
      if any(each.cell.column for each in every)
      else []
    ),
    Column("paper", "paper"),
    Column("measured", "measured" + _arrow(judged.table)),
    *([Column("difference", "measured - paper")] if is_paper else []),
    Column("interval", "95% interval"),
    Column("n", "n"),
    *([Column("verdict", "verdict", numeric=False)] if is_paper else []),
  ]
  second = footnotes.second_hand(judged)
  decimals = {
    metric: tables.decimals_of(
      [each.interval for each in every if each.measured.metric == metric]
    )
    for metric in {each.measured.metric for each in every}
  }
  rows = []
  for each in every:
    said = _cell(each, decimals[each.measured.metric], second)
    rows.append(tuple(said[column.key] for column in columns))
  return Table(tuple(columns), tuple(rows), tuple(footnotes.on_cells(judged)))


def _arrow(table: papers.Table) -> str:
  units = f", {table.units}" if table.units else ""
  arrow = {"lower": " ↓", "higher": " ↑", "": ""}[table.direction]
  return f"{arrow}{units}"


def _cell(
  each: Beside, decimals: int, second: Sequence[str]
) -> dict[str, Cell]:
  """A line of the table, by key of its columns."""
  interval = each.interval
  difference = each.difference
  return {
    "row": Cell(each.cell.row, each.cell.row),
    "column": Cell(each.cell.column or NOTHING, each.cell.column),
    "paper": Cell(_printed(each, second), each.number and each.number.value),
    "measured": Cell(_measured(each, decimals), interval.mean),
    "difference": Cell(
      NOTHING if difference is None else signed(difference, decimals),
      difference,
    ),
    "interval": Cell(ends(interval, decimals), interval.low),
    "n": Cell(_count(each), interval.n),
    "verdict": Cell(each.verdict or NOTHING, each.verdict),
  }


def _printed(each: Beside, second: Sequence[str]) -> str:
  """The paper's number, with the mark of its source where it is second-hand."""
  if each.unverified:
    return UNVERIFIED
  if each.number is None:
    return NOTHING
  return f"{each.number}{_mark(each.number, second)}"


def _mark(number: Number, second: Sequence[str]) -> str:
  if not number.second_hand:
    return ""
  return f" [{second.index(number.source) + 1}]"


def _measured(each: Beside, decimals: int) -> str:
  own, mean = each.measured, each.interval.mean
  if own.censored:
    return "not all reached"
  if mean is None:
    if own.diverged:
      return f"diverged {len(own.diverged)} of {own.num_over}"
    return NOTHING
  marks = DIVERGED_MARK * bool(own.diverged) + EDGE_MARK * own.on_edge
  return number(mean, decimals) + marks


def _count(each: Beside) -> str:
  own, n = each.measured, each.interval.n
  if not own.num_planned:
    return "not run"
  if own.is_complete and (n == own.num_planned or not own.diverged):
    return str(n)  # Of cross-validated data fewer than seeds: folds.
  return f"{n} of {own.num_planned}"


def number(value: float, decimals: int) -> str:
  """A number with so many decimals, or 3 digits where these would hide it."""
  if not math.isfinite(value):
    return "too large"
  is_hidden = value != 0 and abs(value) < 0.5 * 10.0**-decimals
  if is_hidden or abs(value) >= 1e9:
    return f"{value:.3g}"
  return f"{value:.{decimals}f}"


def signed(value: float, decimals: int) -> str:
  """The same with its sign."""
  return ("+" if value > 0 else "") + number(value, decimals)


def ends(interval: Interval, decimals: int) -> str:
  """An interval by its ends; none where it has no width."""
  if interval.low is None or interval.high is None or not interval.sd:
    return NOTHING
  low, high = (number(end, decimals) for end in (interval.low, interval.high))
  return f"[{low}, {high}]"


def statements(judged: Judged) -> Table:
  """What was expected, and what became of it."""
  columns = (
    Column("claim", "stated beforehand", numeric=False),
    Column("source", "source", numeric=False),
    Column("bound", "needs"),
    Column("sum", "measured (95% CI)"),
    Column("n", "n"),
    Column("p_holm", "p (Holm)"),
    Column("verdict", "verdict", numeric=False),
  )
  rows = []
  for each in judged.statements:
    interval = each.interval
    is_mean = each.expected.of != DIVERGENCE
    decimals = tables.decimals_of([interval])
    mean = NOTHING
    if is_mean and interval.mean is not None:
      between = ends(interval, decimals)
      mean = number(interval.mean, decimals)
      mean += "" if between == NOTHING else f" {between}"
    rows.append((
      Cell(each.expected.claim, each.expected.claim),
      Cell(each.expected.source or NOTHING, each.expected.source),
      Cell(bound(each.expected), None),
      Cell(mean, interval.mean),
      Cell(str(interval.n), interval.n),
      Cell(tables.show_p(each.p_holm), each.p_holm),
      Cell(said(each), each.verdict),
    ))  # fmt: skip
  return Table(columns, tuple(rows), tuple(footnotes.on_statements(judged)))


def said(statement: Statement) -> str:
  """A verdict, and why it is undecided or needed no test."""
  reason = f" ({statement.reason})" if statement.reason else ""
  return f"{statement.verdict}{reason}"


def bound(expected: Expected) -> str:
  """What the measured sum has to be, as in "> 0.1"."""
  low, high = expected.at_least, expected.at_most
  if expected.of == DIVERGENCE and len(expected.terms) == 1:
    return "no run diverges" if low is None else "every run diverges"
  if low is not None and low == high:
    return f"= {low:g}"
  if low is None or high is None:
    return f"> {low:g}" if high is None else f"< {high:g}"
  return f"{low:g} to {high:g}"
