"""A panel of lines as plain SVG, for pages on which no script runs.

Matplotlib would take minutes for the pages of all runs.
"""

import math

import markupsafe

from normjax.report.figure import Lines

_WIDTH, _HEIGHT = 400, 130
_LEFT, _TOP, _BOTTOM = 70, 8, 22


def svg(panel: Lines) -> markupsafe.Markup:
  """The lines, and the ends of both axes; colours are the page's."""
  points = [
    (x, y)
    for series in panel.series
    for x, y in zip(series.x, series.y, strict=True)
    if math.isfinite(y)
  ]
  if not points:
    return markupsafe.Markup("")
  xs, ys = zip(*points, strict=True)
  (left, right), (low, high) = _ends(xs), _ends(ys)
  right_px, floor = _WIDTH - 8, _HEIGHT - _BOTTOM

  def placed(x: float, y: float) -> str:
    across = _LEFT + (x - left) / (right - left) * (right_px - _LEFT)
    return (
      f"{across:.1f},{floor - (y - low) / (high - low) * (floor - _TOP):.1f}"
    )

  lines = [
    f'<polyline points="{" ".join(placed(x, y) for x, y in points)}"'
    ' fill="none" stroke="var(--accent)" stroke-width="1.8"/>',
    f'<path d="M{_LEFT},{_TOP}V{floor}H{right_px}" fill="none"'
    ' stroke="currentColor"/>',
  ]
  for x, y, anchor, value in (
    (_LEFT - 6, _TOP + 8, "end", max(ys)),
    (_LEFT - 6, floor, "end", min(ys)),
    (_LEFT, _HEIGHT - 6, "start", min(xs)),
    (right_px, _HEIGHT - 6, "end", max(xs)),
  ):
    lines.append(
      f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="11"'
      f' fill="currentColor">{value:.4g}</text>'
    )
  label = markupsafe.escape(panel.title)
  return markupsafe.Markup(
    f'<svg role="img" aria-label="{label}" viewBox="0 0 {_WIDTH} {_HEIGHT}">'
    f"{''.join(lines)}</svg>"
  )


def _ends(values: tuple[float, ...]) -> tuple[float, float]:
  """The ends of an axis, apart also where all values are one."""
  low, high = min(values), max(values)
  return (low, high) if high > low else (low - 0.5, high + 0.5)
