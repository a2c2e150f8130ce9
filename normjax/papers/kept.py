"""What was measured of a table: its cells, its statements, how it was made."""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from normjax.papers.table import Table, digest

# Of how runs are made and judged: a change that moves verdicts raises it.
PROTOCOL = 1
CONFIRMED, CONTRADICTED, UNDECIDED = VERDICTS = (
  "confirmed", "contradicted", "undecided",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class CellResult:
  """What was measured of a cell.

  Attributes:
    values: seed to value, of the runs that are done; of cross-validated data
      the key is -1 minus the fold.
    diverged: seeds of final runs that diverged.
    planned: final runs, all over.
    resolution: the step of a metric that takes steps; 0: none is known.
    censored: whether it is a target that some run did not reach.
    tuned: whether its part tunes; None of what is computed.
  """

  row: str
  column: str
  part: str
  method: str
  metric: str
  planned: int
  values: Mapping[int, float]
  diverged: Sequence[int] = ()
  resolution: float = 0.0
  censored: bool = False
  tuned: bool | None = None


@dataclasses.dataclass(frozen=True)
class StatementResult:
  """What became of a statement.

  Attributes:
    mean: of the weighted sum over seeds; None where it was not measured.
    low: of its 95% interval, unadjusted; None where there is none.
    high: its upper end.
    p_holm: adjusted over the table's statements; None where nothing was tested.
    reason: why it is undecided, or what it was decided by where by no test.
  """

  claim: str
  verdict: str
  n: int
  mean: float | None = None
  low: float | None = None
  high: float | None = None
  p_holm: float | None = None
  reason: str = ""


@dataclasses.dataclass(frozen=True)
class Made:
  """How and when results were made.

  Attributes:
    date: ISO, of the day.
    commit: of the code; "" outside a repository.
    versions: of packages.
    device: as jax calls it.
    cores: of the machine.
    cpu_s: seconds of all processes; None where it is not known.
    wall_s: seconds from the first run to the last.
    runs: how many runs, trials too.
  """

  date: str
  commit: str
  versions: Mapping[str, str]
  device: str
  cores: int
  cpu_s: float | None
  wall_s: float | None
  runs: int


@dataclasses.dataclass(frozen=True)
class Results:
  """A table as it was measured.

  Attributes:
    statements: digest of what was expected, see `papers.digest`.
    plans: sweep id by part: the digest of the configs that were run.
    verdict: of the table.
  """

  name: str
  paper: str
  scale: str
  statements: str
  plans: Mapping[str, str]
  verdict: str
  cells: Sequence[CellResult]
  expected: Sequence[StatementResult]
  made: Made
  protocol: int = PROTOCOL

  def stale(self, table: Table) -> str:
    """Why it does not stand for a table as it is now; "" where it does."""
    if self.protocol != PROTOCOL:
      return f"made under protocol {self.protocol}, this is {PROTOCOL}"
    claims = [each.claim for each in self.expected]
    if self.statements != digest(table) or claims != [
      each.claim for each in table.expected
    ]:
      return "made under other statements"
    if [_place(each) for each in self.cells] != [
      (cell.row, cell.column, cell.part, cell.label) for cell in table.cells
    ] or any(
      cell.metric not in (None, each.metric)
      for cell, each in zip(table.cells, self.cells, strict=True)
    ):
      return "made with other cells"
    return ""

  @property
  def summary(self) -> str:
    """As in "contradicted 1 of 4"."""
    return summary(self.verdict, [each.verdict for each in self.expected])


def summary(verdict: str, verdicts: Iterable[str]) -> str:
  """A table's verdict, and how many of its statements have it.

  Of an undecided table also how many are confirmed.
  """
  count = collections.Counter(verdicts)
  if not count:
    return f"{verdict}, nothing was stated"
  of = count.total()
  more = ""
  if verdict == UNDECIDED and count[CONFIRMED]:
    more = f", confirmed {count[CONFIRMED]}"
  return f"{verdict} {count[verdict]} of {of}{more}"


def _place(each: CellResult) -> tuple[str, str, str, str]:
  return each.row, each.column, each.part, each.method


def verdict_of(verdicts: Sequence[str]) -> str:
  """Of a table: contradicted if a statement is, confirmed if all are."""
  if CONTRADICTED in verdicts:
    return CONTRADICTED
  is_all = bool(verdicts) and all(each == CONFIRMED for each in verdicts)
  return CONFIRMED if is_all else UNDECIDED
