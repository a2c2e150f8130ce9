"""The page of published tables: what is there, and what is not there yet."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from docs import generator
from docs.generator import text
from normjax import escape
from normjax.papers import kept, targets, toml
from normjax.report import paper
from normjax.report.paper import footnotes, layout
from normjax.report.paper.origin import making
from normjax.reproduce import listing

NOT_YET = generator.ROOT / "experiments" / "not_yet.toml"
_INTRO = """\
A table is one file of `configs/papers`, at one or more scales. `paper` is the
paper's own: its model, its data, its budget. `small` needs one accelerator for
minutes, `proxy` two CPU cores for minutes. `normjax reproduce NAME` plans,
tunes, runs, resumes and judges it; `normjax reproduce --list` prints this list.

What is expected was written down before it was run. At a scale that is not the
paper's, these statements are judged, mostly an order or a ratio, and not the
numbers of the paper's table.
*Measured* is what a statement bounds: of "a is below b" it is b less a, and
above 0 where that is so.
**Confirmed**: the 95% interval over seeds lies inside of what was stated;
**contradicted**: outside, both adjusted for the number of statements;
**undecided**: neither, or runs diverged. A contradiction at proxy scale is one
of the statement at that scale, and of the paper's own scale it says nothing."""
_MISSING = """\
Of these tables numbers are known, and what is missing to run them at the
paper's own scale is said. A proxy of some is above."""


def page() -> str:
  """docs/reference/papers.md."""
  entries, problems = listing.entries()
  if problems:
    raise ValueError("; ".join(problems))
  by_name: dict[str, list[Any]] = {}
  for entry in entries:
    by_name.setdefault(entry.source.name, []).append(entry)
  blocks = ["# Published tables", _INTRO]
  if entries:
    blocks.append(_overview(entries))
  for name, own in by_name.items():
    blocks += _section(name, own)
  blocks += ["## Not there yet", _MISSING, _not_yet()]
  return "\n\n".join(blocks)


def _overview(entries: Sequence[Any]) -> str:
  return text.table(
    ("table", "asks", "scale", "status", "time", "hardware"),
    [
      (
        f"[`{each.source.name}`](#{each.source.name})",
        each.source.headline,
        each.scale,
        _strong(each.status),
        each.time or "not measured",
        each.table.hardware,
      )
      for each in entries
    ],
  )


def _strong(status: str) -> str:
  """Contradictions as prominent as confirmations."""
  word, _, more = status.partition(" ")
  is_verdict = word in (kept.CONFIRMED, kept.CONTRADICTED)
  return f"**{word}** {more}".strip() if is_verdict else status


def _section(name: str, entries: Sequence[Any]) -> list[str]:
  """A table at all its scales."""
  first = entries[0]
  link = f"[`configs/papers/{name}.py`](papers/{name}.md)"
  number = f", arXiv:{first.arxiv}" if first.arxiv else ""
  blocks = [
    f"## {name}",
    f"{first.source.headline} Config: {link}; numbers:"
    f" `experiments/{first.table.paper}/targets.toml`{number}.",
  ]
  for entry in entries:
    blocks += _scale(name, entry)
  if known := _known(entries):
    blocks.append("\n".join(f"- {escape.markdown(line)}" for line in known))
  return blocks


def _known(entries: Sequence[Any]) -> list[str]:
  """What a reader has to know of the numbers, each once."""
  said = [_sentence(note) for each in entries for note in each.table.notes]
  for each in entries:
    traps = targets.read(each.table.paper).traps_of(each.table.target)
    said += [
      f"Known of the paper: {_sentence(trap.text)} ({trap.source})"
      for trap in traps
    ]
  return list(dict.fromkeys(said))


def _scale(name: str, entry: Any) -> list[str]:
  """A table at one scale: command, status, statements with their verdicts."""
  blocks = [
    f"**At {entry.scale} scale**: {_strong(entry.status)}."
    f" `normjax reproduce {name} --scale={entry.scale}` needs"
    f" {entry.table.hardware}; {entry.time or 'time not measured'}. Otherwise"
    f" than the paper: {_sentence(entry.table.differs)}",
  ]
  known = entry.results
  is_current = known is not None and not known.stale(entry.table)
  if not entry.table.expected:
    return blocks
  rows = []
  for index, expected in enumerate(entry.table.expected):
    found = known.expected[index] if is_current else None
    rows.append((
      escape.markdown(expected.claim),
      escape.markdown(expected.source),
      escape.markdown(layout.bound(expected)),
      _measured(found),
      _verdict(found),
    ))  # fmt: skip
  header = ("stated beforehand", "source", "needs", "measured", "verdict")
  blocks.append(text.table(header, rows))
  if is_current:
    blocks += [*_numbers(entry), making(known.made)]
  return blocks


def _numbers(entry: Any) -> list[str]:
  """The paper's numbers beside those that are committed, and their sources."""
  judged = paper.judge(
    entry.table, entry.scale, paper.committed(entry.table, entry.results)
  )
  cells = layout.cells(judged)
  numbers = text.table(
    [column.header for column in cells.columns],
    [[escape.markdown(cell.text) for cell in row] for row in cells.rows],
  )
  sources = footnotes.on_sources(judged)
  return [numbers, "\n".join(f"- {escape.markdown(line)}" for line in sources)]


def _measured(found: kept.StatementResult | None) -> str:
  """The statement's sum with its interval, as committed."""
  if found is None or found.mean is None:
    return ""
  if found.low is None or found.high is None:
    return f"{found.mean:.4g}"
  return f"{found.mean:.4g} [{found.low:.4g}, {found.high:.4g}]"


def _verdict(found: kept.StatementResult | None) -> str:
  if found is None:
    return ""
  p_holm = "" if found.p_holm is None else f", p {found.p_holm:.2g}"
  reason = f" ({escape.markdown(found.reason)})" if found.reason else ""
  return f"{_strong(found.verdict)}{reason}{p_holm}"


def _sentence(said: str) -> str:
  said = said.strip()
  return said if said.endswith((".", "!", "?")) else f"{said}."


def not_yet(file: Path = NOT_YET) -> list[Mapping[str, Any]]:
  """The tables that are not there: paper, title, arXiv, what is missing.

  Raises:
    UserError: the file is not right.
  """
  said = toml.load(file)
  toml.check_keys(str(file), said, ("papers",), ())
  found = toml.records(str(file), said, "papers")
  for index, record in enumerate(found, 1):
    where = f"{file}, paper {index}"
    needed = ("paper", "title", "arxiv", "missing")
    toml.check_keys(where, record, needed, ("tables", "rows"))
    for key in needed:
      toml.text(where, record, key, empty=key == "arxiv")
    toml.records(where, record, "tables")
    toml.text(where, record, "rows", empty=True)
  return found


def _not_yet() -> str:
  rows: list[tuple[str, str, str, str]] = []
  before = ""
  for record in not_yet():
    is_first, before = record["paper"] != before, record["paper"]
    number = f"arXiv:{record['arxiv']}" if record["arxiv"] else ""
    tables = ", ".join(record.get("tables", ())) or "all"
    if "rows" in record:
      tables += f" (rows of {record['rows']})"
    rows.append((
      escape.markdown(record["title"]) if is_first else "",
      number if is_first else "",
      escape.markdown(tables),
      escape.markdown(record["missing"]),
    ))  # fmt: skip
  return text.table(("paper", "arXiv", "tables", "what is missing"), rows)
