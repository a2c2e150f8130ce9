"""A judged table as text: its cells, its statements, and the notes to both."""

import math
from collections.abc import Sequence

from normjax import papers
from normjax.papers.statements import DIVERGENCE, Expected, shown
from normjax.papers.targets import Number
from normjax.report import notes, tables, verdicts
from normjax.report.notes import DIVERGED_MARK, EDGE_MARK
from normjax.report.paper import numbers
from normjax.report.paper.judged import Judged, attainable
from normjax.report.paper.numbers import Beside
from normjax.report.paper.statements import Statement
from normjax.report.tables import NOTHING, Cell, Column, Table
from normjax.statistics import Interval

UNVERIFIED = "unverified: not printed"
# What a narrow terminal shows, the first the longest.
CELLS_MATTER = (
  "row", "column", "paper", "measured", "verdict", "difference", "interval", "n",
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
  lines = [
    *judged.head,
    f"Verdict: {judged.summary}.",
    f"Paper: {paper.title}{number}."
    + (f" {judged.table.target}." if judged.table.target else ""),
    f"Otherwise than the paper: {_sentence(judged.table.differs)}",
  ]
  if judged.untuned:
    trained = [part for part in judged.table.parts if part != papers.MEASURE]
    parts = "" if len(trained) == 1 else f" ({_few(judged.untuned)})"
    lines.append(
      f"Untuned{parts}: rates are fixed, by the paper or by its source."
    )
  return lines


def _few(names: Sequence[str]) -> str:
  return ", ".join(names)


def _sentence(text: str) -> str:
  """With a full stop at its end."""
  text = text.strip()
  return text if text.endswith((".", "!", "?")) else f"{text}."


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
  second = second_hand(judged)
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
  return Table(tuple(columns), tuple(rows), tuple(_notes_on_cells(judged)))


def _arrow(table: papers.Table) -> str:
  units = f", {table.units}" if table.units else ""
  return f" {'↓' if table.direction == 'lower' else '↑'}{units}"


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


def second_hand(judged: Judged) -> list[str]:
  """Sources of second-hand numbers, in the order of their marks."""
  sources = [
    each.number.source
    for each in judged.cells
    if each.number is not None and each.number.second_hand
  ]
  return list(dict.fromkeys(sources))


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
  return Table(columns, tuple(rows), tuple(_notes_on_statements(judged)))


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


def _notes_on_cells(judged: Judged) -> list[str]:
  """What a reader must know to read the table."""
  found = [_sentence(note) for note in judged.table.notes]
  if judged.scale == "paper":
    found.append(
      "agrees: the 95% t-interval of the measured mean, widened by the paper's"
      " plus-minus where it prints one and by half of its last digit, holds the"
      " paper's number; differs: it does not, adjusted by Holm for the number of"
      " cells. A wide interval agrees with much."
    )
  else:
    found.append(
      f"At {judged.scale} scale nothing is said of the paper's numbers: what is"
      " judged are the statements."
    )
  found += _notes_on_sources(judged)
  lost = [
    f"{shown(each.cell.ref)} {len(each.measured.diverged)} of"
    f" {each.measured.num_over}"
    for each in judged.cells
    if each.measured.diverged and each.interval.n
  ]
  if lost:
    found.append(
      f"{DIVERGED_MARK} Diverged: {_few(lost)}. The mean is over the survivors"
      " only, which flatters; nothing is tested on them."
    )
  if any(each.measured.on_edge for each in judged.cells):
    found.append(notes.EDGE)
  if any(each.number and each.number.is_percent for each in judged.cells):
    if judged.table.units != "%":
      found.append("The paper's numbers are percentages, ours fractions.")
  found += [
    f"Known of the paper: {_sentence(trap.text)} ({trap.source})"
    for trap in judged.printed.traps_of(judged.table.target)
  ]
  return found


def _notes_on_sources(judged: Judged) -> list[str]:
  """Where the paper's numbers were read."""
  given = [each.number for each in judged.cells if each.number is not None]
  own = dict.fromkeys(n.source for n in given if not n.second_hand)
  found = [f"The paper's numbers: {'; '.join(own)}."] if own else []
  found += [
    f"[{index}] Second-hand, not read in the paper: {source}."
    for index, source in enumerate(second_hand(judged), 1)
  ]
  unverified = [shown(e.cell.ref) for e in judged.cells if e.unverified]
  if unverified:
    found.append(
      f"Unverified numbers are not printed as the paper's: {_few(unverified)}."
    )
  return found


def _notes_on_statements(judged: Judged) -> list[str]:
  """How statements were judged."""
  if not judged.statements:
    return ["Nothing was stated beforehand, so that there is nothing to judge."]
  found = []
  tested = [each for each in judged.statements if each.p_holm is not None]
  planned = [
    each.measured.num_planned
    for each in judged.cells
    if each.measured.num_planned and not each.measured.computed
  ]
  seeds = attainable(judged.table, min(planned)) if planned else None
  if seeds is not None and not seeds.can_decide:
    found.append(str(seeds))
  if tested:
    found.append(
      "Measured is the weighted sum of the statement's cells, seed by seed, with"
      " its unadjusted 95% t-interval. confirmed: the interval lies inside of"
      " what is needed; contradicted: outside; both with p (Holm), adjusted over"
      " the table's statements, below 0.05; else undecided."
    )
  return found
