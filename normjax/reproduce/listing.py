"""Every published table, with what has become of it: from files alone."""

import dataclasses

from normjax import config_files, errors, papers
from normjax.papers import kept, results, targets
from normjax.reproduce import source

NOT_RUN, STALE, UNREADABLE = "not run", "stale", "results cannot be read"
CHANGED = "config changed since"


@dataclasses.dataclass(frozen=True)
class Entry:
  """A table at one scale.

  Attributes:
    source: its file.
    scale: one of the file's.
    table: at that scale.
    arxiv: of the paper; "" where it has none.
    results: that are committed; None where there are none.
    status: "not run", as "confirmed 4 of 4", the same with "config changed
      since", "stale" with why, or that its results cannot be read.
  """

  source: source.Source
  scale: str
  table: papers.Table
  arxiv: str
  results: kept.Results | None
  status: str

  @property
  def time(self) -> str:
    """As measured where results say it, else as the table does, or ""."""
    made = self.results and self.results.made
    if not made or made.wall_s is None:
      return self.table.time
    if made.wall_s < 60:
      return f"{made.wall_s:.0f} s on {made.cores} cores"
    return f"{made.wall_s / 60:.1f} min on {made.cores} cores"


def entries() -> tuple[list[Entry], list[str]]:
  """All tables that are found from the current folder, at all their scales.

  Returns:
    The tables, and what is wrong with files that give none.
  """
  config_files.search_here()
  found: list[Entry] = []
  problems: list[str] = []
  for name in source.names():
    try:
      file = source.read(f"configs/{source.FOLDER}/{name}.py")
      found += [_entry(file, scale, problems) for scale in file.scales]
    except errors.UserError as error:
      problems.append(str(error))
  return found, problems


def _entry(file: source.Source, scale: str, problems: list[str]) -> Entry:
  """A table at a scale; notes what is wrong with its results.

  Raises:
    UserError: the file or the paper's numbers are not right.
  """
  table = file.table(scale)
  arxiv = targets.read(table.paper).arxiv
  known, status = None, NOT_RUN
  try:
    known = results.find(table.paper, file.name, scale)
  except errors.RunError as error:
    problems.append(str(error))
    status = UNREADABLE
  if known is not None:
    stale = known.stale(table)
    status = f"{STALE}: {stale}" if stale else known.summary
    if not stale and _has_changed(file, scale, known, problems):
      status += f", {CHANGED}"
  return Entry(file, scale, table, arxiv, known, status)


def _has_changed(
  file: source.Source,
  scale: str,
  known: kept.Results,
  problems: list[str],
) -> bool:
  """Whether some part would be run otherwise today than it was.

  What was stated is still what was judged, and of its own runs the verdict
  stands; the command would make other ones.
  """
  try:
    return any(
      file.sweep_id(scale, part) != sweep_id
      for part, sweep_id in known.plans.items()
    )
  except errors.UserError as error:
    problems.append(str(error))
    return True


def told() -> tuple[str, list[str]]:
  """The list as text, a line per table and scale, and what is wrong."""
  found, problems = entries()
  rows = [("table", "arXiv", "scale", "status", "time", "asks")]
  before = ""
  for each in found:
    is_first = each.source.name != before
    before = each.source.name
    rows.append((
      each.source.name if is_first else "",
      each.arxiv if is_first else "",
      each.scale,
      each.status,
      each.time or "not measured",
      each.source.headline if is_first else "",
    ))  # fmt: skip
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  lines = [
    "  ".join(f"{x:{w}}" for x, w in zip(row, widths, strict=True)).rstrip()
    for row in rows
  ]
  if not found:
    lines = [f"No tables in configs/{source.FOLDER}."]
  return "\n".join(lines), problems
