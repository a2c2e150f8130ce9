"""Measures a table part by part, and writes and prints it."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normjax import errors, faults, papers, report
from normjax.papers import kept
from normjax.record import files, lock
from normjax.reproduce import expected, made, pieces, spent
from normjax.reproduce.planned import VALUES, Planned, overridden
from normjax.sweep.summary import Summary

if TYPE_CHECKING:
  from normjax.report import paper


@dataclasses.dataclass(frozen=True)
class Outcome:
  """A table as it was measured, as far as it was.

  Attributes:
    judged: its cells, and the verdicts on what was expected.
    out: the folder with the table's files, and with a folder per part.
    summaries: how the sweep of each part ended.
    made: by what, on what and when.
    exit_code: 0: all that was chosen is over; 1: some runs failed; 130:
      interrupted.
  """

  judged: "paper.Judged"
  out: Path
  summaries: Mapping[str, Summary]
  made: kept.Made
  exit_code: int


def run(plan: Planned) -> Outcome:
  """Measures what is left, part by part, and writes the table.

  Raises:
    UserError: bad input, before anything has run.
    RunError: a folder is in use, or full, or holds other statements.
  """
  for part in plan.sweeps:
    plan.check(part)
  faults.make_folder(plan.out)
  with lock.held(plan.out, by="table"):
    plan.check_expected()  # Again: another call may have been here meanwhile.
    expected.write(plan.out, plan.said)
    return _run(plan)


def _run(plan: Planned) -> Outcome:
  """Measures what is left, in a folder where nobody else does."""
  summaries: dict[str, Summary] = {}
  computed = None
  with spent.counted(plan.out) as count:
    for part in filter(plan.wants, plan.table.parts):
      if plan.has_parts:
        plan.say(f"Part {part}:")
      if part == papers.MEASURE:
        count.begun = True  # Interrupted, it goes on in another call.
        is_first = not (plan.out / papers.MEASURE / VALUES).exists()
        computed = _measure(plan)
        count.runs += is_first
        continue
      summary = summaries[part] = plan.sweeps[part].run()
      count.runs += summary.num_ran
      count.begun |= summary.exit_code != 0  # Some go on in another call.
      if summary.interrupted:
        break
  return _tell(plan, summaries, computed)


def _measure(plan: Planned) -> Mapping[papers.Ref, Any]:
  """The values of the part that is computed; they stay beside the runs."""
  from normjax.report import paper

  folder = plan.out / papers.MEASURE
  code = Path(plan.source.module.__file__ or plan.source.path)
  kept_pieces = pieces.Pieces(folder / pieces.FILE, code, plan.scale, plan.say)
  values = plan.source.measure(plan.scale, kept_pieces)
  found = paper.measured(plan.table, {}, values)  # Or says what is wrong.
  values = {
    cell.ref: [
      found[cell.ref].values.get(seed, math.nan)
      for seed in sorted(found[cell.ref].seeds)
    ]
    for cell in plan.table.cells
    if cell.part == papers.MEASURE
  }
  plain = {papers.shown(ref): own for ref, own in values.items()}
  for name, own in plain.items():
    if not own:
      raise errors.UserError(f"measure() gives no value of cell {name!r}.")
  files.write_json(folder / VALUES, plain)
  kept_pieces.close()
  return values


def _tell(
  plan: Planned,
  summaries: Mapping[str, Summary],
  computed: Mapping[papers.Ref, Any] | None,
) -> Outcome:
  """Writes and prints the table, and what went wrong."""
  from normjax.report import arithmetic, paper

  records = plan.records()
  for part in records:
    report.write_report(plan.out / part)
  measured = paper.measured(plan.table, records, computed)
  head, table = [], plan.table
  if plan.another:  # The statements are not about it.
    head = [overridden(plan.another)]
    table = dataclasses.replace(table, expected=())
  judged = paper.judge(
    table,
    plan.scale,
    measured,
    head=head,
    unlike=arithmetic.differences_of_parts(records),
  )
  how = made.of(plan, records)
  paths = paper.write(plan.out, judged, paper.Origin(plan.command, how))
  paper.print_table(judged, plan.console)
  for part, summary in summaries.items():
    own = f"{part}: " if plan.has_parts else ""
    plan.say(f"{own}{summary.text(choosing='--rows and --seeds')}")
  plan.say(f"table: {paths.html}")
  codes = [summary.exit_code for summary in summaries.values()]
  return Outcome(judged, plan.out, summaries, how, max(codes, default=0))
