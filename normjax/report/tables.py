"""The comparison as one table of text, the same in every output format."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from normjax.record.comparison import short_names
from normjax.report import notes, stats, verdicts
from normjax.report.load import SweepRecord
from normjax.report.notes import DEAD_MARK, DIVERGED_MARK, EDGE_MARK
from normjax.report.verdicts import Difference
from normjax.statistics import MAX_SEEDS, Interval, Seeds

NOTHING = "–"


@dataclasses.dataclass(frozen=True)
class Column:
  """A column: its key, its header, and whether it holds numbers."""

  key: str
  header: str
  numeric: bool = True


@dataclasses.dataclass(frozen=True)
class Cell:
  """A cell: what is shown, and the value it sorts by (None: last)."""

  text: str
  sort: float | str | None


@dataclasses.dataclass(frozen=True)
class Table:
  """Columns, one list of cells per method, and footnotes."""

  columns: tuple[Column, ...]
  rows: tuple[tuple[Cell, ...], ...]
  notes: tuple[str, ...]


def build(sweep: SweepRecord, rows: Sequence[stats.Row]) -> Table:
  """The table that people read; columns that would be empty are left out."""
  compared = any(row.difference for row in rows)
  tuned = bool(sweep.tuned_keys)
  exact = verdicts.is_exact(sweep)
  arrow = "↓" if sweep.mode == "min" else "↑"
  columns = [
    Column("method", "method", numeric=False),
    *([_tuned_column(sweep)] if tuned else []),
    *([Column("trials", "trials")] if tuned else []),
    Column("n", "seeds"),
    Column("metric", f"{sweep.metric} {arrow} (95% CI)"),
    *(
      [
        Column("difference", "difference (95% CI, unadjusted)"),
        Column("verdict", "verdict", numeric=False),
        Column("p_holm", "p (Holm)"),
        # Of a t-test: a rank has no spread to plan with.
        *([] if exact else [Column("seeds_needed", "seeds needed")]),
      ]
      if compared
      else []
    ),
    *(Column(name, f"{name} (95% CI)") for name in sweep.other_metrics),
    Column("diverged", "diverged"),
    Column("steps", "steps"),
    *(
      [Column("forwards_per_step", "forwards/step")]
      if notes.differ_in_compute(rows)
      else []
    ),
    Column("train_s", "train s"),
    *_speed_columns(rows),
    Column("compile_s", "compile s"),
    Column("optimizer_state_bytes", "optimizer state"),
    Column("num_params", "params"),
    *_cost_columns(sweep),
  ]
  decimals = decimals_of([row.interval for row in rows])
  names = short_names(sweep.tuned_keys)
  other_decimals = {
    name: decimals_of([row.others[name] for row in rows])
    for name in sweep.other_metrics
  }
  cells = [
    _cells(row, names, decimals, difference_decimals(rows))
    | {
      name: Cell(show_interval(interval, other_decimals[name]), interval.mean)
      for name, interval in row.others.items()
    }
    | {
      "metric" if name == sweep.metric else name: Cell(
        f"reached {found}", found.median
      )
      for name, found in row.reached.items()
    }
    | _cost_cells(sweep, row.label)
    for row in rows
  ]
  return Table(
    tuple(columns),
    tuple(tuple(row[c.key] for c in columns) for row in cells),
    tuple(notes.build(sweep, rows)),
  )


def _speed_columns(rows: Sequence[stats.Row]) -> list[Column]:
  """Where devices have a peak: on a CPU `train s` says it."""
  if all(row.mfu is None for row in rows):
    return []
  is_text = any(row.tokens_per_s is not None for row in rows)
  return [
    Column("tokens_per_s", "tokens/s")
    if is_text
    else Column("examples_per_s", "examples/s"),
    Column("mfu", "MFU"),
    Column("peak_device_bytes", "peak memory"),
  ]


def _cost_columns(sweep: SweepRecord) -> list[Column]:
  """Where some method has a cost: the compiler's count, and the papers'."""
  costs = sweep.costs
  if costs is None or not costs.methods:
    return []
  return [
    Column("compiled_peak_bytes", f"{costs.model}: peak, {costs.target}"),
    Column("lasting_bytes", f"{costs.model}: without activations"),
    Column("paper_bytes", f"{costs.model}: weights and states, 16 bits"),
  ]


def _cost_cells(sweep: SweepRecord, label: str) -> dict[str, Cell]:
  cost = sweep.costs and sweep.costs.methods.get(label)
  found = {
    "compiled_peak_bytes": cost.peak_bytes if cost else None,
    "lasting_bytes": cost.lasting_bytes if cost else None,
    "paper_bytes": cost.paper_bytes if cost else None,
  }
  return {key: Cell(show_bytes(count), count) for key, count in found.items()}


def _tuned_column(sweep: SweepRecord) -> Column:
  """Named after the value, where but one was tuned."""
  names = list(short_names(sweep.tuned_keys).values())
  header = names[0].replace("_", " ") if len(names) == 1 else "tuned values"
  return Column("tuned", header, numeric=len(names) == 1)


def _cells(
  row: stats.Row,
  names: Mapping[str, str],
  decimals: int,
  of_difference: int,
) -> dict[str, Cell]:
  difference = row.difference or Difference(Interval(0))
  complete = row.over == row.planned
  n = row.num_done
  return {
    "method": Cell(row.label, row.label),
    "tuned": _tuned(row, names),
    "trials": Cell(_trials(row), row.trials),
    "n": Cell(
      str(n) if complete and n == row.planned else f"{n} of {row.planned}", n
    ),
    "metric": Cell(
      show_interval(row.interval, decimals)
      + (DIVERGED_MARK if row.diverged and n else "")
      + (DEAD_MARK if row.gradient_zero else ""),
      row.interval.mean,
    ),
    "difference": Cell(
      show_difference(difference.interval, of_difference)
      + (
        DIVERGED_MARK
        if difference.of_survivors and difference.interval.n
        else ""
      ),
      difference.interval.mean,
    ),
    "verdict": Cell(row.verdict or NOTHING, row.verdict),
    "p_holm": Cell(show_p(difference.p_holm), difference.p_holm),
    "seeds_needed": Cell(
      _seeds_needed(difference.seeds_needed),
      difference.seeds_needed and difference.seeds_needed.observed,
    ),
    "diverged": Cell(
      _divergence(row), len(row.diverged) / row.over if row.over else None
    ),
    "steps": _number(row.steps, "{:,}"),
    "train_s": _number(row.train_s, "{:,.1f}"),
    "tokens_per_s": _number(row.tokens_per_s, "{:,.0f}"),
    "examples_per_s": _number(row.examples_per_s, "{:,.0f}"),
    "mfu": _number(row.mfu, "{:.1%}"),
    "peak_device_bytes": Cell(
      show_bytes(row.peak_device_bytes), row.peak_device_bytes
    ),
    "forwards_per_step": _number(row.forwards_per_step, "{:.3g}"),
    "compile_s": _number(row.compile_s, "{:,.1f}"),
    "optimizer_state_bytes": Cell(
      show_bytes(row.optimizer_state_bytes), row.optimizer_state_bytes
    ),
    "num_params": _number(row.num_params, "{:,}"),
  }


def _number(value: float | None, form: str) -> Cell:
  return Cell(NOTHING if value is None else form.format(value), value)


def _trials(row: stats.Row) -> str:
  if row.trials is None:
    return NOTHING
  if row.trials < row.trials_planned:
    return f"{row.trials} of {row.trials_planned}"
  return str(row.trials)


def _seeds_needed(seeds: Seeds | None) -> str:
  """A range, as in "7 to 30"."""
  if seeds is None:
    return NOTHING
  if seeds.low >= MAX_SEEDS:
    return f"> {MAX_SEEDS:,}"
  if seeds.low == seeds.high:
    return str(seeds.low)
  beyond = seeds.high >= MAX_SEEDS
  return f"{seeds.low} to {'> ' if beyond else ''}{seeds.high:,}"


def _tuned(row: stats.Row, names: Mapping[str, str]) -> Cell:
  choices = row.method.choices
  if not choices:
    return Cell(NOTHING, None)
  said = {
    short: list(map(show_value, row.method.chosen(key)))
    for key, short in names.items()
  }
  differ = any(len(set(values)) > 1 for values in said.values())
  parts = [
    ("" if len(names) == 1 else f"{short}=")
    + ", ".join(values if len(set(values)) > 1 else values[:1])
    for short, values in said.items()
    if values  # A method may lack a key.
  ]
  first = next(iter(choices[0].values.values()))
  return Cell(
    ("; " if differ else ", ").join(parts)
    + (EDGE_MARK if row.method.on_edge else ""),
    first if isinstance(first, int | float) else str(first),
  )


def _divergence(row: stats.Row) -> str:
  if not row.over:
    return NOTHING
  if not row.diverged:
    return f"0 of {row.over}"
  steps = ", ".join(
    "?" if step is None else f"{step:,}" for step in row.diverged.values()
  )
  return f"{len(row.diverged)} of {row.over} (step {steps})"


def show_value(value: Any) -> str:
  """A config value, floats in their shortest useful form."""
  if isinstance(value, float):
    return f"{value:.4g}"
  return value if isinstance(value, str) else json.dumps(value)


def show_bytes(count: int | None) -> str:
  """Bytes in decimal units: 1 MB is 10^6 bytes."""
  if count is None:
    return NOTHING
  for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
    if count >= scale:
      return f"{count / scale:.2f} {unit}"
  return f"{count} B"


def show_p(p_value: float | None) -> str:
  """A p-value; below 0.001 only that."""
  if p_value is None:
    return NOTHING
  return "< 0.001" if p_value < 1e-3 else f"{p_value:.3f}"


def show_interval(interval: Interval, decimals: int) -> str:
  """Mean ± half width; the mean alone where there is no interval."""
  if interval.mean is None:
    return NOTHING
  if interval.half_width is None:
    return f"{interval.mean:.{decimals}f}"
  return f"{interval.mean:.{decimals}f} ± {interval.half_width:.{decimals}f}"


def show_difference(interval: Interval, decimals: int) -> str:
  """Signed mean difference with the ends of its interval."""
  if interval.mean is None:
    return NOTHING
  text = f"{interval.mean:+.{decimals}f}"
  if interval.low is None:
    return text
  return f"{text} [{interval.low:+.{decimals}f}, {interval.high:+.{decimals}f}]"


def difference_decimals(rows: Sequence[stats.Row]) -> int:
  """Digits that the differences of a table are shown with."""
  return decimals_of(
    [row.difference.interval for row in rows if row.difference]
  )


def decimals_of(intervals: Sequence[Interval]) -> int:
  """Digits that show two figures of the typical interval, 2 to 6."""
  # Of numbers whose squares overflow the width is infinite.
  halves = sorted(
    i.half_width
    for i in intervals
    if i.half_width and math.isfinite(i.half_width)
  )
  if not halves:
    whole = all(float(i.mean or 0.0).is_integer() for i in intervals)
    return 0 if whole else 4
  typical = halves[(len(halves) - 1) // 2]
  return min(6, max(2, 1 - math.floor(math.log10(typical))))
