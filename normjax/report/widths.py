"""How ranks of activations grow with a width, of a sweep that varies it.

Methods that differ in `model.hidden_dim` alone are one line; a rank is any
metric of a result that `ffn_hard_rank` or `ffn_soft_rank` made.
"""

import csv
import dataclasses
import io
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence

from normjax.record.comparison import Method
from normjax.report.formats import encodable
from normjax.report.load import SweepRecord
from normjax.report.tables import NOTHING, Cell, Column, Table
from normjax.statistics import Interval, mean_interval, power_law

WIDTH = "model.hidden_dim"
_RANK = re.compile(r"eval/ffn_(hard|soft)_rank(\((?!.*log=True).*\))?")
_FEWEST = 3  # Of two widths a line has no residuals.


@dataclasses.dataclass(frozen=True)
class Growth:
  """A rank over the width, of one method.

  Attributes:
    method: what is common to the labels of its widths.
    metric: "eval/ffn_hard_rank".
    ranks: width -> mean over the seeds of `exponents`.
    exponents: seed -> exponent, of the seeds that have every width.
  """

  method: str
  metric: str
  ranks: Mapping[int, float]
  exponents: Mapping[int, power_law.PowerLaw]

  @property
  def interval(self) -> Interval:
    """Of the exponent: over seeds; of one seed, of the line's residuals."""
    fits = list(self.exponents.values())
    if len(fits) == 1:
      only = fits[0]
      return Interval(1, only.exponent, only.low, only.high)
    return mean_interval([fit.exponent for fit in fits])


def analyse(sweep: SweepRecord) -> list[Growth]:
  """Empty where no method has three widths, or no rank was measured."""
  found = []
  for methods in _by_others(sweep.methods):
    if len(methods) < _FEWEST:
      continue
    runs = {
      width: {run.seed: run for run in sweep.finals(method.label)}
      for width, method in sorted(methods.items())
    }
    name = _common([method.label for method in methods.values()])
    metrics = {
      metric: None
      for by_seed in runs.values()
      for run in by_seed.values()
      for metric in run.result.get("metrics", ())
      if _RANK.fullmatch(metric)
    }
    for metric in metrics:
      ranks = {
        seed: {width: by_seed[seed].metric(metric) for width, by_seed in
               runs.items()}
        for seed in sorted(set.intersection(*map(set, runs.values())))
      }  # fmt: skip
      whole = {
        seed: own
        for seed, own in ranks.items()
        if all(rank and math.isfinite(rank) for rank in own.values())
      }
      if whole:
        found.append(
          Growth(
            name,
            metric,
            {
              width: sum(own[width] for own in whole.values()) / len(whole)
              for width in runs
            },
            {
              seed: power_law.fit(list(own), list(own.values()))
              for seed, own in whole.items()
            },
          )
        )
  return found


def _by_others(methods: Sequence[Method]) -> list[dict[int, Method]]:
  """Width -> method, of methods that differ in nothing else."""
  groups: dict[str, dict[int, Method]] = {}
  for method in methods:
    width = method.overrides.get(WIDTH)
    if isinstance(width, int):
      others = {k: v for k, v in method.overrides.items() if k != WIDTH}
      key = json.dumps(others, sort_keys=True, default=str)
      groups.setdefault(key, {})[width] = method
  return list(groups.values())


def _common(labels: Sequence[str]) -> str:
  """What labels begin with: "AdamW" of "AdamW 1x", "AdamW 8x"."""
  columns = zip(*labels, strict=False)
  alike = itertools.takewhile(lambda letters: len({*letters}) == 1, columns)
  shared = "".join(letters[0] for letters in alike).strip(" ,+(@=_-")
  shared = re.sub(r"[\s+]*(model\.)?hidden_dim$", "", shared)
  return shared or labels[0]


def table(growths: Sequence[Growth]) -> Table:
  """A line per method and rank."""
  widths = sorted({width for each in growths for width in each.ranks})
  columns = (
    Column("method", "method", numeric=False),
    Column("metric", "rank", numeric=False),
    Column("exponent", "exponent (95% CI)"),
    Column("n", "seeds"),
    *(Column(f"rank_{width}", f"at {width:,}") for width in widths),
  )
  rows = []
  for each in growths:
    interval = each.interval
    text = f"{interval.mean:.2f}"
    if interval.low is not None:
      text += f" [{interval.low:.2f}, {interval.high:.2f}]"
    at = [
      Cell(f"{each.ranks[w]:.1f}", each.ranks[w])
      if w in each.ranks
      else Cell(NOTHING, None)
      for w in widths
    ]
    rows.append(
      (
        Cell(each.method, each.method),
        Cell(each.metric.removeprefix("eval/"), each.metric),
        Cell(text, interval.mean),
        Cell(str(interval.n), interval.n),
        *at,
      )
    )
  return Table(columns, tuple(rows), tuple(_notes(growths)))


def _notes(growths: Sequence[Growth]) -> list[str]:
  notes = [
    f"rank = c {WIDTH}^exponent, by least squares of the logarithms, seed by"
    " seed (arXiv:2605.21803); of the seeds that have every width. A larger"
    " exponent is not a larger rank.",
  ]
  if any(len(each.exponents) == 1 for each in growths):
    notes.append(
      "Of one seed the interval is that of the line's residuals: it holds no"
      " luck of a seed."
    )
  return notes


def comma_separated(growths: Sequence[Growth]) -> str:
  """Unrounded numbers, a line per method, rank and seed."""
  widths = sorted({width for each in growths for width in each.ranks})
  file = io.StringIO()
  names = ["method", "metric", "seed", "exponent", "coefficient", "r_squared"]
  names += [f"mean_rank_{width}" for width in widths]
  writer = csv.writer(file, lineterminator="\n")
  writer.writerow(names)
  for each in growths:
    means = [each.ranks.get(width, "") for width in widths]
    for seed, fit in each.exponents.items():
      row = [each.method, each.metric, seed, fit.exponent, fit.coefficient]
      row += [fit.r_squared, *means]
      writer.writerow([encodable(value) for value in row])
  return file.getvalue()
