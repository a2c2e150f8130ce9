"""Probes by depth: what the last probed step of the final runs says.

Names of probes that differ in one number alone, as
"activation/layers/0/attention" does from "…/1/…", are one panel whose x is
that number.
"""

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from normjax.record import files
from normjax.record.directory import RunState
from normjax.report import stats
from normjax.report.figure import TRIALS, Figure, Lines, Series, name, styles
from normjax.report.load import Run, SweepRecord

# More panels than this are a page of their own; `load_run` has the rest.
_MAX_PANELS = 12
_PER_FIGURE = 4
# Of an activation's statistics, those that rms says most of.
_LESS_TOLD = ("mean", "variance", "max", "min")
_MAX_TICKS = 12
# The first whole part of a name that is a number.
_DEPTH = re.compile(r"(?<=[/.])\d+(?=[/.]|$)")


def build(sweep: SweepRecord, rows: Sequence[stats.Row]) -> list[Figure]:
  """A panel per family of probes that has two depths or more."""
  del rows
  families: dict[str, list[Series]] = {}
  for method in sweep.methods:
    found = [
      newest(run)
      for run in sweep.finals(method.label)
      if run.state is RunState.DONE
    ]
    for family, series in _series(method.label, found).items():
      families.setdefault(family, []).append(series)
  if not families:
    return []
  order = sorted(families, key=lambda family: (_less_told(family), family))
  panels = [
    Lines(
      name(family), "depth", tuple(families[family]),
      ticks=_ticks(families[family]),
    )
    for family in order
  ]  # fmt: skip
  left_out = len(panels) - _MAX_PANELS
  caption = "Probes at the last step probed; mean over the seeds that are done."
  if left_out > 0:
    caption += (
      f" {left_out} further families of probes are not drawn;"
      " normjax.load_run(DIR).metrics() has them."
    )
  looks = styles(sweep)
  return [
    Figure(
      f"probes_{start // _PER_FIGURE + 1}" if len(panels) > _PER_FIGURE
      else "probes",
      "Probes by depth",
      caption,
      tuple(panels[start : start + _PER_FIGURE]),
      looks,
    )
    for start in range(0, min(len(panels), _MAX_PANELS), _PER_FIGURE)
  ]  # fmt: skip


def _less_told(family: str) -> bool:
  return family.rpartition("/")[2] in _LESS_TOLD


def _ticks(series: Sequence[Series]) -> tuple[float, ...]:
  """Depths are whole numbers: no tick between them."""
  depths = sorted({x for one in series for x in one.x})
  return tuple(depths[:: -(-len(depths) // _MAX_TICKS)])


def newest(run: Run) -> dict[str, float]:
  """The run's newest probes by name."""
  probed = [row for row in run.rows if row["kind"] == "probe"]
  if not probed:
    return {}
  return {
    key: value
    for key, value in probed[-1].items()
    if key not in files.ROW_KEYS and value is not None
  }


def _series(
  label: str, runs: Sequence[Mapping[str, float]]
) -> dict[str, Series]:
  """A method's series by family."""
  values: dict[str, dict[int, list[float]]] = {}
  for probes in runs:
    for key, value in probes.items():
      if found := _DEPTH.search(key):
        family = f"{key[: found.start()]}*{key[found.end() :]}"
        own = values.setdefault(family, {})
        own.setdefault(int(found[0]), []).append(value)
  series = {}
  for family, by_depth in values.items():
    depths = sorted(by_depth)
    if len(depths) > 1:
      means = [float(np.mean(by_depth[depth])) for depth in depths]
      if all(map(math.isfinite, means)):
        series[family] = Series(
          label, tuple(map(float, depths)), tuple(means), look=TRIALS
        )
  return series
