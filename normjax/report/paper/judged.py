"""A table with its verdicts, and what of it is committed."""

import dataclasses
from collections.abc import Mapping, Sequence

from normjax import papers, statistics
from normjax.papers import kept, targets
from normjax.papers.printed import Targets
from normjax.papers.statements import Ref
from normjax.report.paper import numbers, statements
from normjax.report.paper.measure import Measured
from normjax.report.paper.numbers import Beside
from normjax.report.paper.statements import Statement

_NO_SEED = -(10**9)  # Below the numbers of folds.


@dataclasses.dataclass(frozen=True)
class Judged:
  """A table at a scale, as far as it was measured.

  Attributes:
    printed: what the paper printed.
    cells: in the table's order.
    statements: one per `table.expected`.
    head: what a reader must know first, as that it is part of a table.
    unlike: in what the rows' arithmetic differs, a sentence each.
  """

  table: papers.Table
  scale: str
  printed: Targets
  cells: tuple[Beside, ...]
  statements: tuple[Statement, ...]
  head: tuple[str, ...] = ()
  unlike: tuple[str, ...] = ()

  @property
  def verdict(self) -> str:
    """Contradicted if a statement is, confirmed if all are, else undecided."""
    return kept.verdict_of([each.verdict for each in self.statements])

  @property
  def summary(self) -> str:
    """As in "contradicted 1 of 4"."""
    verdicts = [each.verdict for each in self.statements]
    return kept.summary(self.verdict, verdicts)

  @property
  def is_complete(self) -> bool:
    """Whether every final run of every cell is over."""
    return all(each.measured.is_complete for each in self.cells)

  @property
  def untuned(self) -> tuple[str, ...]:
    """Parts whose sweeps tune nothing."""
    found = {
      each.cell.part: None
      for each in self.cells
      if each.measured.is_tuned is False
    }
    return tuple(found)


def judge(
  table: papers.Table,
  scale: str,
  measured: Mapping[Ref, Measured],
  head: Sequence[str] = (),
  unlike: Sequence[str] = (),
) -> Judged:
  """The verdicts on a table.

  Args:
    table: cells, and what is expected of them.
    scale: at "paper" the paper's numbers are compared too.
    measured: by cell, see `measure.measured`.
    head: what a reader must know first.
    unlike: in what the rows' arithmetic differs, see `report.arithmetic`.

  Raises:
    UserError: `targets.toml` is not right, or lacks a number.
  """
  printed = targets.check(table)
  return Judged(
    table,
    scale,
    printed,
    numbers.beside(table, scale, measured, printed),
    statements.judge(table, measured),
    tuple(head),
    tuple(unlike),
  )


def attainable(
  table: papers.Table, num_seeds: int
) -> statistics.Attainable | None:
  """What so many seeds can decide; None where no statement needs a test."""
  count = statements.num_tests(table)
  return statistics.attainable(num_seeds, count) if count else None


def results(
  judged: Judged,
  name: str,
  plans: Mapping[str, str],
  made: kept.Made,
) -> kept.Results:
  """What of a table is committed.

  Args:
    judged: the table.
    name: of its config file.
    plans: sweep id by part.
    made: how, by what and when.
  """
  return kept.Results(
    name=name,
    paper=judged.table.paper,
    scale=judged.scale,
    statements=papers.digest(judged.table),
    plans=dict(plans),
    verdict=judged.verdict,
    cells=[_cell(each) for each in judged.cells],
    expected=[_statement(each) for each in judged.statements],
    made=made,
  )


def committed(table: papers.Table, found: kept.Results) -> dict[Ref, Measured]:
  """The cells of a table as they were committed: `judge` judges them again.

  Args:
    table: that the results are of, see `Results.stale`.
    found: all of its cells.
  """
  return {
    cell.ref: _committed(each)
    for cell, each in zip(table.cells, found.cells, strict=True)
  }


def _committed(each: kept.CellResult) -> Measured:
  seeds = {*each.values, *each.diverged}
  # Of a target that was not reached no seed has a value, and of folds there are
  # fewer than runs: those are counted, by numbers that are no seed's.
  seeds |= {_NO_SEED - index for index in range(each.planned - len(seeds))}
  return Measured(
    each.values,
    frozenset(each.diverged),
    each.planned,
    each.planned,
    each.resolution,
    frozenset(seeds),
    each.censored,
    computed=each.part == papers.MEASURE,
    is_tuned=each.tuned,
    metric=each.metric,
  )


def _cell(each: Beside) -> kept.CellResult:
  own = each.measured
  return kept.CellResult(
    each.cell.row,
    each.cell.column,
    each.cell.part,
    each.cell.label,
    own.metric,
    own.num_planned,
    dict(sorted(own.values.items())),
    sorted(own.diverged),
    own.resolution,
    own.censored,
    own.is_tuned,
  )


def _statement(each: Statement) -> kept.StatementResult:
  interval = each.interval
  return kept.StatementResult(
    each.expected.claim,
    each.verdict,
    interval.n,
    interval.mean,
    interval.low,
    interval.high,
    each.p_holm,
    each.reason,
  )
