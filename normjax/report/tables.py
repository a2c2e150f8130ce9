"""The comparison as one table of text, the same in every output format."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from normjax.record.comparison import short_names
from normjax.report import stats
from normjax.report.load import SweepRecord

NOTHING = "–"
DIVERGED_MARK = "†"
EDGE_MARK = "‡"
DEAD_MARK = "§"


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


# Of columns that a narrow table leaves out.
NOTE_SEEDS_NEEDED = (
  " Seeds needed: for 80% power, if difference and spread are as observed."
)
NOTE_EDGE = (
  f"{EDGE_MARK} The best value lies on an edge of its grid: a better one may"
  " lie beyond."
)
NOTE_TIMES = (
  "Train s: mean over seeds, without compilation and evaluation. Compile s: of"
  " the program, by whichever run compiled it first."
)


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
  arrow = "↓" if sweep.mode == "min" else "↑"
  columns = [
    Column("method", "method", numeric=False),
    *([_tuned_column(sweep)] if tuned else []),
    *([Column("trials", "trials")] if tuned else []),
    Column("n", "seeds"),
    Column("metric", f"{sweep.metric} {arrow} (95% CI)"),
    *(
      [
        Column("difference", "difference (95% CI)"),
        Column("verdict", "verdict", numeric=False),
        Column("p_holm", "p (Holm)"),
        Column("seeds_needed", "seeds needed"),
      ]
      if compared
      else []
    ),
    *(Column(name, f"{name} (95% CI)") for name in sweep.other_metrics),
    Column("diverged", "diverged"),
    Column("steps", "steps"),
    Column("train_s", "train s"),
    Column("compile_s", "compile s"),
    Column("optimizer_state_bytes", "optimizer state"),
    Column("num_params", "params"),
  ]
  decimals = _decimals([row.interval for row in rows])
  names = short_names(sweep.tuned_keys)
  other_decimals = {
    name: _decimals([row.others[name] for row in rows])
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
    for row in rows
  ]
  return Table(
    tuple(columns),
    tuple(tuple(row[c.key] for c in columns) for row in cells),
    tuple(_notes(sweep, rows)),
  )


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
  difference = row.difference or stats.Difference(stats.Interval(0))
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
      show_difference(difference.interval, of_difference),
      difference.interval.mean,
    ),
    "verdict": Cell(row.verdict or NOTHING, row.verdict),
    "p_holm": Cell(show_p(difference.p_holm), difference.p_holm),
    "seeds_needed": Cell(
      _seeds_needed(difference.seeds_needed), difference.seeds_needed
    ),
    "diverged": Cell(
      _divergence(row), len(row.diverged) / row.over if row.over else None
    ),
    "steps": _number(row.steps, "{:,}"),
    "train_s": _number(row.train_s, "{:,.1f}"),
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


def _seeds_needed(count: int | None) -> str:
  if count is None:
    return NOTHING
  return f"> {count:,}" if count >= stats.MAX_SEEDS else str(count)


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


def show_interval(interval: stats.Interval, decimals: int) -> str:
  """Mean ± half width; the mean alone where there is no interval."""
  if interval.mean is None:
    return NOTHING
  if interval.half_width is None:
    return f"{interval.mean:.{decimals}f}"
  return f"{interval.mean:.{decimals}f} ± {interval.half_width:.{decimals}f}"


def show_difference(interval: stats.Interval, decimals: int) -> str:
  """Signed mean difference with the ends of its interval."""
  if interval.mean is None:
    return NOTHING
  text = f"{interval.mean:+.{decimals}f}"
  if interval.low is None:
    return text
  return f"{text} [{interval.low:+.{decimals}f}, {interval.high:+.{decimals}f}]"


def difference_decimals(rows: Sequence[stats.Row]) -> int:
  """Digits that the differences of a table are shown with."""
  return _decimals([row.difference.interval for row in rows if row.difference])


def _decimals(intervals: Sequence[stats.Interval]) -> int:
  """Digits that show two figures of the typical interval, 2 to 6."""
  halves = sorted(i.half_width for i in intervals if i.half_width)
  if not halves:
    whole = all(float(i.mean or 0.0).is_integer() for i in intervals)
    return 0 if whole else 4
  typical = halves[(len(halves) - 1) // 2]
  return min(6, max(2, 1 - math.floor(math.log10(typical))))


def _notes(sweep: SweepRecord, rows: Sequence[stats.Row]) -> list[str]:
  notes = [
    "Mean over seeds ± half the 95% t-interval;"
    + (" smaller" if sweep.mode == "min" else " larger")
    + " is better."
  ]
  compared = [
    r for r in rows if r.difference and r.difference.p_holm is not None
  ]
  if compared:
    notes.append(
      f"Difference to {sweep.baseline_name} over common seeds, paired, with its"
      " 95% t-interval; not distinguishable where p (Holm) is 0.05 or more."
      + NOTE_SEEDS_NEEDED
    )
  if len(compared) > 1:
    lost = [r.label for r in compared if r.verdict != r.verdict_uncorrected]
    notes.append(
      f"{len(compared)} comparisons were made; verdicts and p (Holm) are"
      " adjusted for that, intervals are not."
      + (
        f" Not distinguishable by the adjustment alone: {', '.join(lost)}."
        if lost
        else ""
      )
    )
  if any(r.reached for r in rows):
    notes.append(
      "Reached: how many of the runs that are over reached the target. How long"
      " the others would need is not known, so there is no mean and no"
      " difference; the median is over all, where more than half reached it."
    )
  if any(r.diverged and r.interval.n for r in rows):
    notes.append(
      f"{DIVERGED_MARK} Some seeds diverged: mean and difference are over the"
      " survivors only, which flatters the method."
    )
  dead = [r for r in rows if r.gradient_zero]
  if dead:
    since = "; ".join(
      f"{row.label}, seed {seed}: from step {step:,}"
      for row in dead
      for seed, step in row.gradient_zero.items()
    )
    notes.append(
      f"{DEAD_MARK} The gradient was exactly 0 up to the end while the loss was"
      f" not: nothing was learned any more. {since}."
    )
  repeated = [t.for_seed for t in sweep.tunings if t.for_seed is not None]
  if len(repeated) > 1:
    seeds = ", ".join(map(str, repeated))
    notes.append(
      f"Tuned values are those of the final seeds {seeds}, in this order; one"
      " value stands for all. Trials are those of all their tunings."
    )
  edges = [r.method.edges() for r in rows if r.method.on_edge]
  if edges:
    which = f" Here: {', '.join(edges)}." if repeated else ""
    notes.append(NOTE_EDGE + which)
  notes.append(NOTE_TIMES)
  return notes
