"""A table as Markdown, CSV and in the terminal; `latex` writes TeX.

All show the text of `tables.build`; the CSV alone holds unrounded numbers.
"""

import csv
import dataclasses
import io
import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as RichTable

from normjax import escape
from normjax.record.comparison import Choice
from normjax.record.costs import Cost
from normjax.report import stats, verdicts
from normjax.report.load import SweepRecord
from normjax.report.tables import Cell, Table
from normjax.report.verdicts import Difference
from normjax.statistics import Interval

# What a terminal too narrow for all columns shows, the first the longest.
_CORE = (
  "method", "size", "speedup", "trend", "metric", "difference", "verdict", "n",
  "diverged", "tuned", "train_s", "trials",
)  # fmt: skip
# Where a cell may go on two lines.
FOLD = re.compile(r" (?=[\[(])|(?<=\bnot) |(?<=,) (?=[a-z])")


def markdown(table: Table) -> str:
  """A GitHub-flavoured table followed by its notes."""
  lines = [
    _markdown_line(column.header for column in table.columns),
    _markdown_line("---:" if c.numeric else "---" for c in table.columns),
    *(_markdown_line(cell.text for cell in row) for row in table.rows),
    "",
    *(f"- {escape.markdown_item(note)}" for note in table.notes),
  ]
  return "\n".join(lines) + "\n"


def _markdown_line(cells: Iterable[str]) -> str:
  return "| " + " | ".join(map(escape.markdown, cells)) + " |"


def comma_separated(sweep: SweepRecord, rows: Sequence[stats.Row]) -> str:
  """Unrounded numbers, one line per method; an unknown number is empty."""
  file = io.StringIO()
  writer = None
  for record in records(sweep, rows):
    record = {key: encodable(value) for key, value in record.items()}
    if writer is None:
      writer = csv.DictWriter(file, list(record), lineterminator="\n")
      writer.writeheader()
    writer.writerow(record)
  return file.getvalue()


def _tuned(choices: Sequence[Choice]) -> str | None:
  """Chosen values as JSON: by final seed where tuning was repeated."""
  if not choices:
    return None
  if choices[0].for_seed is None:
    return json.dumps(choices[0].values)
  return json.dumps({str(c.for_seed): c.values for c in choices})


def records(
  sweep: SweepRecord, rows: Sequence[stats.Row]
) -> list[dict[str, Any]]:
  """Unrounded numbers, one mapping per method; an unknown number is None."""
  targets = sorted({name for row in rows for name in row.reached})
  num_comparisons = sum(row.difference is not None for row in rows)
  found = []
  for row in rows:
    difference = row.difference or Difference(Interval(0))
    seeds = difference.seeds_needed
    record = {
      "method": row.label,
      "tuned": _tuned(row.method.choices),
      "on_edge": row.method.on_edge,
      "trials": row.trials,
      "seeds_planned": sweep.num_seeds or row.planned,
      "n": row.interval.n,
      "metric": sweep.metric,
      "mode": sweep.mode,
      "mean": row.interval.mean,
      "ci95_low": row.interval.low,
      "ci95_high": row.interval.high,
      "sd": row.interval.sd,
      "baseline": sweep.baseline_of(row.label),
      "comparisons": num_comparisons,
      "test": "signed_rank" if verdicts.is_exact(sweep) else "t",
      "pairs": difference.interval.n,
      "difference_mean": difference.interval.mean,
      "difference_ci95_low": difference.interval.low,
      "difference_ci95_high": difference.interval.high,
      "p_value": difference.p_value,
      "p_value_holm": difference.p_holm,
      "seeds_needed": seeds and seeds.observed,
      "seeds_needed_low": seeds and seeds.low,
      "seeds_needed_high": seeds and seeds.high,
      "verdict": row.verdict,
      "verdict_uncorrected": row.verdict_uncorrected,
      "diverged": len(row.diverged),
      "diverged_at_steps": json.dumps(list(row.diverged.values())),
      "gradient_zero": len(row.gradient_zero),
      "gradient_zero_since_steps": json.dumps(list(row.gradient_zero.values())),
      "failed": row.failed,
      "steps": row.steps,
      "train_s": row.train_s,
      "step_ms": row.step_ms,
      "examples_per_s": row.examples_per_s,
      "tokens_per_s": row.tokens_per_s,
      "mfu": row.mfu,
      "data_wait_share": row.data_wait_share,
      "peak_device_bytes": row.peak_device_bytes,
      "compile_s": row.compile_s,
      "forwards_per_step": row.forwards_per_step,
      "optimizer_state_bytes": row.optimizer_state_bytes,
      "num_params": row.num_params,
    }
    for name in sweep.other_metrics:
      interval = row.others.get(name, Interval(0))
      record |= {
        name: interval.mean,
        f"{name}_ci95_low": interval.low,
        f"{name}_ci95_high": interval.high,
      }
    for name in targets:
      reached = row.reached.get(name)
      record[f"{name}_reached"] = reached.count if reached else row.num_done
    found.append(record | _costs(sweep, row.label))
  return found


def _costs(sweep: SweepRecord, label: str) -> dict[str, Any]:
  """What a method takes at a real size; nothing of a sweep without costs."""
  if sweep.costs is None:
    return {}
  cost = sweep.costs.methods.get(label)
  names = [field.name for field in dataclasses.fields(Cost)]
  names += ["activations_bytes", "lasting_bytes", "paper_bytes"]
  return {f"compiled_{name}": getattr(cost, name, None) for name in names}


def runs(sweep: SweepRecord) -> str:
  """Every run on a line of its own, its numbers unrounded."""
  file = io.StringIO()
  writer = csv.writer(file, lineterminator="\n")
  writer.writerow((
    "run", "method", "stage", "seed", "state", "metric", "train_s", "tuned",
    *sweep.other_metrics,
  ))  # fmt: skip
  for run in sweep.runs:
    tuned = {k: v for k, v in run.overrides.items() if k in sweep.tuned_keys}
    line = (
      run.run_id, run.method, run.stage, run.seed, run.state,
      run.metric(sweep.metric), run.result.get("train_s"), json.dumps(tuned),
      *map(run.metric, sweep.other_metrics),
    )  # fmt: skip
    writer.writerow(map(encodable, line))
  return file.getvalue()


def encodable(value: Any) -> Any:
  """A text without what is no character at all, which no file can hold."""
  if not isinstance(value, str):
    return value
  return value.encode("utf-8", "backslashreplace").decode()


# Of a verdict's tone.
_STYLES = {
  verdicts.BETTER: "green",
  verdicts.WORSE: "red",
  verdicts.BASELINE: "bold",
  "": "dim",
}


def terminal(
  table: Table,
  console: Console,
  matter: Sequence[str] = _CORE,
  tone: Callable[[str], str] = verdicts.tone,
) -> RichTable:
  """A rich table: all columns where they fit, else those that matter most.

  Where space is short, long cells first go on two lines, then columns are
  left out from the end of the list of what matters.

  Args:
    table: as text.
    console: that it has to fit.
    matter: keys of columns, the first matters most.
    tone: of a verdict's text, see `verdicts.tone`.
  """
  keys = [column.key for column in table.columns]
  core = [key for key in matter if key in keys]
  layouts = [(keys, False), (core, False)]
  layouts += [(core[:count], True) for count in range(len(core), 1, -1)]
  # A table is never measured as wider than its console.
  unbounded = console.options.update(max_width=10_000)
  for shown, folded in layouts:
    view = _terminal(table, [k for k in keys if k in shown], folded, tone)
    if Measurement.get(console, unbounded, view).maximum <= console.width:
      break
  return view


def _terminal(
  table: Table, keys: Sequence[str], folded: bool, tone: Callable[[str], str]
) -> RichTable:
  view = RichTable(
    box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0)
  )
  chosen = [i for i, column in enumerate(table.columns) if column.key in keys]
  for index in chosen:
    column = table.columns[index]
    view.add_column(
      escape.terminal(_fold(column.header, folded)),
      justify="right" if column.numeric else "left",
      overflow="fold",
    )
  for row in table.rows:
    view.add_row(
      *(
        escape.terminal(_fold(row[i].text, folded), _style(table, row, i, tone))
        for i in chosen
      )
    )
  return view


def _fold(text: str, folded: bool) -> str:
  return FOLD.sub("\n", text) if folded else text


def _style(
  table: Table, row: Sequence[Cell], index: int, tone: Callable[[str], str]
) -> str:
  if table.columns[index].key != "verdict":
    return ""
  return _STYLES[tone(row[index].text)]
