"""Figures of what `normjax probe` found."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from normjax.report.figure import (
  COLORS,
  DASHES,
  LINE,
  MARKERS,
  TRIALS,
  Figure,
  Lines,
  Series,
  Style,
)

_PER_FIGURE = 4
# So many depths have a line over the positions, and matrices a spectrum each.
_MOST_LINES = 6
_MAX_TICKS = 12
_ALL = "mean over tokens"
# "layers/3/attention/query/kernel": which block, and which matrix of it.
_BLOCK = re.compile(r"^(.*?/)?(\d+)/(.+?)(/kernel)?$")

_Value = Mapping[str, Any]


def build(value: _Value) -> list[Figure]:
  """The figures that there is data for.

  Args:
    value: of `record.probe_file.read`, or of `normjax.probe.measure`.
  """
  panels = {
    "probe_depth": ("By depth", by_depth(value)),
    "probe_position": ("By position", by_position(value)),
    "probe_spectra": ("Spectra of weights", spectra(value)),
  }
  figures = []
  for name, (title, found) in panels.items():
    for start in range(0, len(found), _PER_FIGURE):
      part = tuple(found[start : start + _PER_FIGURE])
      number = (
        f"_{start // _PER_FIGURE + 1}" if len(found) > _PER_FIGURE else ""
      )
      figures.append(Figure(f"{name}{number}", title, "", part, _styles(part)))
  return figures


def by_depth(value: _Value) -> list[Lines]:
  """What has a number per depth, or per block."""
  panels = [
    _panel(f"stream: {_words(name)}", "depth", [(_ALL, profile["by_depth"])])
    for name, profile in value.get("streams", {}).items()
  ]
  if massive := value.get("massive_activations"):
    largest = [_largest(each) for each in massive]
    medians = [each["median"] for each in massive]
    panels.append(
      _panel(
        "stream: magnitudes, log10", "depth",
        [("largest", _logs(largest)), ("median", _logs(medians))],
      )
    )  # fmt: skip
  if sinks := value.get("attention_sinks", {}).get("first_token_mass"):
    panels.append(
      _panel(
        "attention to the first token", "block",
        [
          ("the head with most", [m and max(m) for m in sinks]),
          ("mean of the heads", [m and sum(m) / len(m) for m in sinks]),
        ],
      )
    )  # fmt: skip
  if distance := value.get("angles", {}).get("distance"):
    panels.append(
      _panel(
        "angle that a block turns the stream by, in pi", "block",
        [(_ALL, [row[0] for row in distance])],
      )
    )  # fmt: skip
  whole = value.get("loss")
  if skipped := value.get("skipping", {}).get("loss"):
    panels.append(
      _panel(
        "loss without a block", "block",
        [("without it", skipped), ("with all", [whole] * len(skipped))],
      )
    )  # fmt: skip
  if early := value.get("logit_lens"):
    panels.append(
      _panel(
        "logit lens", "depth",
        [("loss", early["loss"]), ("KL from the end", early["divergence"])],
      )
    )  # fmt: skip
  return [panel for panel in panels if panel.series]


def by_position(value: _Value) -> list[Lines]:
  """Streams over the position of tokens, for a few depths."""
  panels = []
  for name, profile in value.get("streams", {}).items():
    rows = profile["by_position"]
    if min(map(len, rows), default=0) < 2:
      continue
    lines = [(f"depth {depth}", rows[depth]) for depth in _some(len(rows))]
    panels.append(_panel(f"stream: {_words(name)}", "position", lines, LINE))
  return [panel for panel in panels if panel.series]


def spectra(value: _Value) -> list[Lines]:
  """Ranks over the blocks by kind of matrix."""
  families: dict[str, dict[int, _Value]] = {}
  for path, found in value.get("spectra", {}).items():
    if parts := _BLOCK.match(path):
      families.setdefault(parts[3], {})[int(parts[2])] = found
  kinds = list(families)[: len(COLORS)]
  panels = []
  for key in ("largest", "stable_rank", "effective_rank"):
    lines = []
    for kind in kinds:
      blocks = families[kind]
      values = [blocks.get(i, {}).get(key) for i in range(max(blocks) + 1)]
      lines.append((kind, values))
    panels.append(_panel(_words(key), "block", lines))
  return [panel for panel in panels if panel.series]


def _panel(
  title: str,
  x_label: str,
  lines: Iterable[tuple[str, Sequence[float | None]]],
  look: str = TRIALS,
) -> Lines:
  series = []
  for label, values in lines:
    points = [
      (float(x), y)
      for x, y in enumerate(values)
      if y is not None and math.isfinite(y)
    ]
    if points:
      x, y = zip(*points, strict=True)
      series.append(Series(label, x, y, look=look))
  longest = max((int(one.x[-1]) + 1 for one in series), default=0)
  ticks = range(0, longest, -(-longest // _MAX_TICKS) or 1)
  return Lines(title, x_label, tuple(series), ticks=tuple(map(float, ticks)))


def _styles(panels: Iterable[Lines]) -> dict[str, Style]:
  styles: dict[str, Style] = {}
  for panel in panels:
    for place, series in enumerate(panel.series):
      styles.setdefault(
        series.label,
        Style(
          COLORS[place % len(COLORS)],
          DASHES[place % len(DASHES)],
          MARKERS[place % len(MARKERS)],
        ),
      )
  return styles


def _some(count: int) -> list[int]:
  """A few depths, the first and the last among them."""
  most = min(count, _MOST_LINES)
  step = (count - 1) / max(most - 1, 1)
  return sorted({round(step * i) for i in range(most)})


def _words(name: str) -> str:
  return name.replace("_", " ")


def _largest(massive: _Value) -> float | None:
  value = massive["largest"][0]["value"] if massive["largest"] else None
  return None if value is None else abs(value)


def _logs(values: Iterable[float | None]) -> list[float | None]:
  return [math.log10(value) if value else None for value in values]
