"""Draws the figures whose data changed; takes the others from their files.

A drawn file says of which data and by which code it is. Drawing takes longer
than all else in the report of a finished sweep.
"""

import hashlib
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from normjax.report.figure import Figure


class Drawn(NamedTuple):
  """A figure with its files' contents; `old` where these are on disk."""

  figure: Figure
  svg: str
  pdf: bytes
  old: bool


def draw(figures: Sequence[Figure], folder: Path) -> list[Drawn]:
  """Every figure drawn.

  Args:
    figures: in the order of the page.
    folder: where `<name>.svg` and `<name>.pdf` of an earlier report may lie.
  """
  if not figures:
    return []
  by = _drawn_by()
  return [_found(figure, folder, by) or _new(figure, by) for figure in figures]


def _drawn_by() -> str:
  """What draws: its code and matplotlib's version."""
  code = (Path(__file__).parent / "drawing.py").read_bytes()
  code += metadata.version("matplotlib").encode()
  return hashlib.sha256(code).hexdigest()[:8]


def _stamp(figure: Figure, by: str) -> str:
  return f"normjax {figure.digest} {by}"


def _found(figure: Figure, folder: Path, by: str) -> Drawn | None:
  """The figure from its files, where both are of these data."""
  stamp = _stamp(figure, by)
  try:
    svg = (folder / f"{figure.name}.svg").read_bytes()
    pdf = (folder / f"{figure.name}.pdf").read_bytes()
  except OSError:
    return None
  if not svg.endswith(_comment(stamp).encode()) or stamp.encode() not in pdf:
    return None
  return Drawn(figure, svg.decode(errors="replace"), pdf, old=True)


def _new(figure: Figure, by: str) -> Drawn:
  from normjax.report import drawing

  stamp = _stamp(figure, by)
  svg = drawing.svg(figure) + _comment(stamp)
  return Drawn(figure, svg, drawing.pdf(figure, stamp), old=False)


def _comment(stamp: str) -> str:
  return f"<!-- {stamp} -->\n"
