r"""Tables for a paper: one that fits a column, and all columns for a page.

Both need nothing but `tabularx`, which every LaTeX has; `booktabs` makes their
rules nicer where it is loaded. Widths are estimated here from those of
Computer Modern, since TeX cannot choose columns; the estimates are generous.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from normjax import escape
from normjax.report import notes, stats, tables
from normjax.report.load import SweepRecord
from normjax.report.tables import Table

# Of `\documentclass[twocolumn]{article}`, the narrowest of the usual ones.
_COLUMN_PT = 229
_PAGE_PT = 469
_GAP_PT = 6  # Twice `\tabcolsep`.
_SIZES = {"footnotesize": 8, "scriptsize": 7, "tiny": 5}
# A name has to break where its column is narrower than this.
_NAME_PT = 62
_LONGEST_HEADER = 16  # characters
# Where a name may go on in the next line; none has longer words than this.
_WORDS = re.compile(r"[\w.]{1,10}?(?:_+|(?!\w)|$)|[\w.]{1,10}|.", re.DOTALL)

_MINUS = re.compile(r"(?<!\w)-(?=[\d.])")

_RULES = (
  r"\providecommand{\toprule}{\hline}",
  r"\providecommand{\midrule}{\hline}",
  r"\providecommand{\bottomrule}{\hline}",
)


class _Grid(NamedTuple):
  """A tabular: headers and rows of plain text, the first column names."""

  headers: tuple[str, ...]
  rows: tuple[tuple[str, ...], ...]
  numeric: tuple[bool, ...]

  def widths_em(self) -> list[float]:
    """What each column takes, in the size of its type."""
    cells = zip(self.headers, *self.rows, strict=True)
    return [max(map(_em, column)) for column in cells]


def column(sweep: SweepRecord, rows: Sequence[stats.Row], table: Table) -> str:
  """Method, metric, difference and adjusted p, as wide as a column."""
  grid, notes = _for_column(sweep, rows, table)
  widths = grid.widths_em()[1:]
  needed = min(_NAME_PT, max(_em(row[0]) for row in grid.rows) * 7)
  # A smaller type before names above their numbers, and that before the rest.
  size, body = next(
    (size, body)
    for size, points, body, least in (
      ("footnotesize", 8, _beside, needed),
      ("scriptsize", 7, _beside, needed),
      ("footnotesize", 8, _above, 0),
      ("scriptsize", 7, _above, 0),
      ("tiny", 5, _above, -math.inf),
    )
    if _COLUMN_PT - _taken(widths, points) >= least
  )
  points = _SIZES[size]
  room = _COLUMN_PT - _taken(widths, points)
  return _text(
    "a column, as in \\begin{table}", [body(grid, room, points)], size, notes
  )


def full(table: Table) -> str:
  """Every column, in as many tabulars below each other as a page needs."""
  grid = _Grid(
    tuple(column.header for column in table.columns),
    tuple(
      tuple(
        _MINUS.sub("−", cell.text) if column.numeric else cell.text
        for column, cell in zip(table.columns, row, strict=True)
      )
      for row in table.rows
    ),
    tuple(column.numeric for column in table.columns),
  )
  size = "scriptsize"
  points = _SIZES[size]
  widths = grid.widths_em()
  name = min(widths[0] * points, 2 * _NAME_PT)
  blocks: list[list[int]] = [[]]
  for index in range(1, len(widths)):
    taken = [widths[i] for i in (*blocks[-1], index)]
    if blocks[-1] and name + _taken(taken, points) > _PAGE_PT:
      blocks.append([])
    blocks[-1].append(index)
  texts = []
  for block in blocks:
    part = _part(grid, [0, *block])
    room = _PAGE_PT - _taken([widths[i] for i in block], points)
    body = _beside if room >= min(_NAME_PT, name) else _above
    texts.append(body(part, room, points))
  return _text("a page, as in \\begin{table*}", texts, size, table.notes)


def _part(grid: _Grid, columns: Sequence[int]) -> _Grid:
  def chosen(cells: Sequence) -> tuple:
    return tuple(cells[i] for i in columns)

  return _Grid(
    chosen(grid.headers), tuple(map(chosen, grid.rows)), chosen(grid.numeric)
  )


def _for_column(
  sweep: SweepRecord, rows: Sequence[stats.Row], table: Table
) -> tuple[_Grid, list[str]]:
  """The narrow table's text, and its notes."""
  shown = [
    note.removesuffix(notes.SEEDS_NEEDED)
    for note in table.notes
    if not note.startswith((notes.EDGE, notes.TUNED, notes.TIMES))
  ]
  keys = [column.key for column in table.columns]

  def texts(key: str) -> list[str]:
    return [row[keys.index(key)].text for row in table.rows]

  arrow = "↓" if sweep.mode == "min" else "↑"
  header = sweep.metric
  if len(header) > _LONGEST_HEADER:
    shown.insert(0, f"Metric: {header}.")
    header = "metric"
  seeds = sorted({row.interval.n for row in rows})
  if seeds:
    said = " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
    shown.insert(0, f"Seeds per method: {said}.")
  columns = {"method": texts("method"), f"{header} {arrow}": texts("metric")}
  if "difference" in keys:
    decimals = tables.difference_decimals(rows)
    columns["difference"] = [_difference(row, decimals) for row in rows]
    columns["p (Holm)"] = [text.replace("< ", "<") for text in texts("p_holm")]
  return (
    _Grid(
      tuple(columns),
      tuple(zip(*columns.values(), strict=True)),
      (False, *[True] * (len(columns) - 1)),
    ),
    shown,
  )


def _difference(row: stats.Row, decimals: int) -> str:
  """Mean ± half width, shorter than the ends of the interval."""
  interval = row.difference.interval if row.difference else None
  if interval is None or interval.mean is None:
    return tables.NOTHING
  mean = f"{interval.mean:+.{decimals}f}".replace("-", "−")
  half = interval.half_width
  mark = notes.DIVERGED_MARK if row.difference.of_survivors else ""
  return (mean if half is None else f"{mean} ± {half:.{decimals}f}") + mark


def _taken(widths_em: Iterable[float], points: float) -> float:
  """What columns take beside the first, in points."""
  return sum(width * points + _GAP_PT for width in widths_em)


def _beside(grid: _Grid, room_pt: float, points: float) -> list[str]:
  """A line per method; a name that is too long goes on in a further one."""
  aligned = "".join("r" if numeric else "l" for numeric in grid.numeric[1:])
  spec = rf"@{{}}>{{\raggedright\arraybackslash}}X{aligned}@{{}}"
  lines = []
  for name, *cells in grid.rows:
    fits = _em(name) * points <= room_pt
    first = escape.tex(name) if fits else _breakable(name)
    lines.append(_line([first, *map(escape.tex, cells)]))
  return _tabular(spec, _line(map(escape.tex, grid.headers)), lines)


def _above(grid: _Grid, room_pt: float, points: float) -> list[str]:
  """Each name on a line of its own, its numbers below."""
  del room_pt, points
  numbers = len(grid.headers) - 1
  spec = "@{}X" + "r" * (numbers - 1) + "@{}" if numbers > 1 else "@{}X@{}"
  whole = rf"\multicolumn{{{numbers}}}{{@{{}}p{{\linewidth}}@{{}}}}"
  lines = []
  for name, *cells in grid.rows:
    lines.append(rf"{whole}{{\raggedright {_breakable(name)}}} \\")
    lines.append(_line(map(escape.tex, cells)))
  header = _line(map(escape.tex, grid.headers[1:]))
  return _tabular(spec, header, lines)


def _tabular(spec: str, header: str, lines: Sequence[str]) -> list[str]:
  return [
    rf"\begin{{tabularx}}{{\linewidth}}{{{spec}}}",
    r"\toprule",
    header,
    r"\midrule",
    *lines,
    r"\bottomrule",
    r"\end{tabularx}",
  ]


def _line(cells: Iterable[str]) -> str:
  return " & ".join(cells) + r" \\"


def _breakable(text: str) -> str:
  """A name that TeX breaks at a space, else after one of its parts."""
  return " ".join(
    r"\penalty99{}".join(map(escape.tex, _WORDS.findall(word)))
    for word in escape.plain(text).split(" ")
  )


def _text(
  place: str, bodies: Sequence[Sequence[str]], size: str, notes: Iterable[str]
) -> str:
  lines = [
    rf"% Fits {place}.",
    r"% Needs \usepackage{tabularx}; \usepackage{booktabs} makes nicer rules.",
    "% U+1F600 stands for the character of that number, which pdfLaTeX lacks.",
    r"\begingroup",
    *_RULES,
    rf"\{size}\setlength{{\tabcolsep}}{{{_GAP_PT // 2}pt}}"
    r"\def\arraystretch{1.1}\noindent",
  ]
  for index, body in enumerate(bodies):
    lines += [r"\par\medskip\noindent"] * (index > 0) + list(body)
  lines += [
    r"\par\smallskip\raggedright",
    *(rf"{_breakable_words(note)}\par" for note in notes),
    r"\endgroup",
  ]
  return "\n".join(lines) + "\n"


def _breakable_words(text: str) -> str:
  """Prose whose long names break."""
  return " ".join(
    escape.tex(word) if _is_plain(word) else _breakable(word)
    for word in text.split(" ")
  )


def _is_plain(word: str) -> bool:
  """A word of the language, which TeX hyphenates, or a short name."""
  return len(word) <= 12 or (len(word) <= 20 and word.strip(".,;:").isalpha())


# Widths of Computer Modern in em, by kind of character; 0.53 for the rest.
_WIDTHS: tuple[tuple[Callable[[str], bool], float], ...] = (
  (lambda c: c in "ijl.,:;!'|[]()", 0.33),
  (lambda c: c in "mwMW%@&+=<>±−–", 0.9),
  (str.isupper, 0.78),
  (str.isascii, 0.57),
)


def _em(text: str) -> float:
  """About how wide a text is, rather too wide."""
  total = 0.0
  for c in escape.plain(text):
    shown = escape.tex(c)
    if shown.startswith("U+"):
      total += 0.7 * len(shown)
    else:
      total += next((w for is_of, w in _WIDTHS if is_of(c)), 0.9)
  return total
