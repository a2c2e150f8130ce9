"""The table in every format, against text written by hand."""

import csv
import dataclasses
import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from normjax import escape, statistics
from normjax.report import (
  facts,
  formats,
  latex,
  load,
  stats,
  tables,
  verdicts,
)


def _small(make_sweep, **options):
  options = {
    "norms": {"layer_norm": 0.0, "dyt": 0.06},
    "optimizers": {"adamw": (0.0, 1e-3), "sinkgd": (-0.03, 1e-2)},
  } | options
  sweep = load.load(make_sweep(**options))
  return sweep, stats.summarize(sweep)


# What it says is checked by test_stats and by test_numbers_of_the_golden.
GOLDEN = (Path(__file__).parent / "table_golden.md").read_text()


def test_markdown(make_sweep):
  sweep, rows = _small(make_sweep)
  assert formats.markdown(tables.build(sweep, rows)) == GOLDEN


def test_numbers_of_the_golden(make_sweep):
  """The golden table's cells, from the files by the shortest route."""
  sweep, _ = _small(make_sweep)
  losses = {
    (run.method, run.seed): json.loads(
      (sweep.directory / "runs" / run.run_id / "result.json").read_text()
    )["metrics"]["eval/loss"]
    for run in sweep.runs
    if run.stage == "final"
  }
  own = [losses["layer_norm+sinkgd", s] for s in (100, 101, 102)]
  base = [losses["layer_norm+adamw", s] for s in (100, 101, 102)]
  mean = sum(own) / 3
  difference = sum(own) / 3 - sum(base) / 3
  line = GOLDEN.splitlines()[3]
  assert f"| {mean:.4f} ±" in line
  assert f"| {difference:+.4f} [" in line


def test_csv_is_unrounded(make_sweep):
  sweep, rows = _small(make_sweep)
  records = list(
    csv.DictReader(io.StringIO(formats.comma_separated(sweep, rows)))
  )
  assert [r["method"] for r in records] == [row.label for row in rows]
  for record, row in zip(records, rows, strict=True):
    assert float(record["mean"]) == row.interval.mean
    assert float(record["ci95_low"]) == row.interval.low
    assert int(record["optimizer_state_bytes"]) == 3_373_060
  assert records[0]["difference_mean"] == ""
  assert json.loads(records[3]["tuned"]) == {"optimizer.learning_rate": 0.01}
  assert records[3]["on_edge"] == "True"
  assert json.loads(records[3]["diverged_at_steps"]) == [140]


def test_tex_escape():
  assert escape.tex("a_b & 5% of $x^2 {#1} ~ \\") == (
    r"a\_b \& 5\% of \$x\textasciicircum{}2 \{\#1\} \textasciitilde{}"
    r" \textbackslash{}"
  )


def test_markdown_escapes_bars(make_sweep):
  sweep, rows = _small(make_sweep, norms={"a|b": 0.0}, baseline=None)
  text = formats.markdown(tables.build(sweep, rows))
  assert r"| a\|b+adamw |" in text


def _printed(table, width):
  file = io.StringIO()
  console = Console(file=file, width=width)
  console.print(formats.terminal(table, console))
  return file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 120, 240])
def test_terminal_never_breaks_a_word(make_sweep, width):
  sweep, rows = _small(make_sweep)
  text = _printed(tables.build(sweep, rows), width)
  assert max(map(len, text.splitlines())) <= width
  for row in rows:
    assert row.label in text
    assert f"{row.interval.mean:.4f}" in text
  assert ("params" in text) == (width == 240)
  assert ("worse" in text) == (width >= 80)


def test_columns_without_content_are_left_out(make_sweep):
  sweep, rows = _small(make_sweep, trials=False, baseline=None)
  keys = [column.key for column in tables.build(sweep, rows).columns]
  assert keys == [
    "method", "n", "metric", "diverged", "steps", "train_s", "compile_s",
    "optimizer_state_bytes", "num_params",
  ]  # fmt: skip


def test_other_metrics_are_columns_that_decide_nothing(make_sweep):
  sweep, rows = _small(make_sweep)
  shown = dataclasses.replace(
    sweep, other_metrics=("eval/accuracy", "eval/typo")
  )
  more = stats.summarize(shown)
  assert [r.verdict for r in more] == [r.verdict for r in rows]
  table = tables.build(shown, more)
  keys = [column.key for column in table.columns]
  assert keys[keys.index("eval/accuracy") + 1] == "eval/typo"
  cells = dict(zip(keys, table.rows[0], strict=True))
  # The recorded accuracy is 1 - loss / 6.
  mean, half = rows[0].interval.mean, rows[0].interval.half_width
  assert more[0].others["eval/accuracy"].mean == pytest.approx(1 - mean / 6)
  assert cells["eval/accuracy"].text.startswith(f"{1 - mean / 6:.4f}")
  assert more[0].others["eval/accuracy"].half_width == pytest.approx(half / 6)
  assert cells["eval/typo"].text == tables.NOTHING
  # The directory's plan says which.
  file = sweep.directory / "plan.json"
  plan = json.loads(file.read_text()) | {"other_metrics": ["eval/accuracy"]}
  file.write_text(json.dumps(plan))
  assert load.load(sweep.directory).other_metrics == ("eval/accuracy",)


def test_missing_seeds_are_counted(make_sweep):
  sweep, _ = _small(make_sweep)
  run = sweep.finals("dyt+adamw")[0]
  (sweep.directory / "runs" / run.run_id / "result.json").unlink()
  (sweep.directory / "runs" / run.run_id / "status.json").unlink()
  sweep = load.load(sweep.directory)
  table = tables.build(sweep, stats.summarize(sweep))
  cells = {
    c.key: cell for c, cell in zip(table.columns, table.rows[2], strict=True)
  }
  assert cells["n"].text == "2 of 3"
  assert cells["diverged"].text == "0 of 2"
  assert tables.DIVERGED_MARK not in cells["metric"].text


def test_nothing_ran_yet(make_sweep):
  sweep, _ = _small(make_sweep)
  for run in sweep.runs:
    directory = sweep.directory / "runs" / run.run_id
    (directory / "result.json").unlink()
    (directory / "status.json").unlink()
  sweep = load.load(sweep.directory)
  table = tables.build(sweep, stats.summarize(sweep))
  cells = {
    c.key: cell for c, cell in zip(table.columns, table.rows[1], strict=True)
  }
  assert cells["n"].text == "0 of 3"
  assert cells["metric"].text == tables.NOTHING
  assert cells["trials"].text == "0 of 4"
  assert cells["verdict"].text == verdicts.TOO_FEW
  assert verdicts.kind(verdicts.TOO_FEW) in verdicts.KINDS  # It is counted.


@pytest.mark.parametrize(
  ("count", "text"),
  [(None, "–"), (0, "0 B"), (999, "999 B"), (3_373_060, "3.37 MB"),
   (2_000, "2.00 kB"), (5 * 10**9, "5.00 GB")],
)  # fmt: skip
def test_show_bytes(count, text):
  assert tables.show_bytes(count) == text


def test_show_interval():
  interval = statistics.Interval(3, 1.23456, 1.2, 1.26912, 0.1)
  assert tables.show_interval(interval, 3) == "1.235 ± 0.035"
  assert tables.show_interval(statistics.Interval(1, 1.23456), 3) == "1.235"
  assert tables.show_interval(statistics.Interval(0), 3) == "–"
  assert tables.show_p(0.0004) == "< 0.001"
  assert tables.show_p(0.0416) == "0.042"


def test_a_zero_gradient_is_said_everywhere(make_sweep):
  """In the row, beneath the table, in the CSV and among the warnings."""
  sweep, rows = _small(make_sweep)
  assert "gradient was" not in formats.markdown(tables.build(sweep, rows))
  assert not [
    line for line in facts.warnings(sweep, rows) if "gradient" in line
  ]
  for seed, step in ((100, 40), (102, 1_200)):
    run = next(run for run in sweep.finals("dyt+adamw") if run.seed == seed)
    path = sweep.directory / "runs" / run.run_id / "result.json"
    result = json.loads(path.read_text())
    path.write_text(json.dumps({**result, "gradient_zero_since_step": step}))
  sweep = load.load(sweep.directory)
  rows = stats.summarize(sweep)
  table = tables.build(sweep, rows)
  text = formats.markdown(table)
  marked = [line for line in text.splitlines() if tables.DEAD_MARK in line]
  assert len(marked) == 2
  assert marked[0].startswith("| dyt+adamw |")
  assert marked[1].endswith(
    "nothing was learned any more. dyt+adamw, seed 100: from step 40;"
    " dyt+adamw, seed 102: from step 1,200."
  )
  records = csv.DictReader(io.StringIO(formats.comma_separated(sweep, rows)))
  found = {
    r["method"]: (r["gradient_zero"], r["gradient_zero_since_steps"])
    for r in records
  }
  assert found.pop("dyt+adamw") == ("2", "[40, 1200]")
  assert set(found.values()) == {("0", "[]")}
  assert latex.full(table).isascii()
  assert (
    sum(
      "the gradient was exactly 0 from step" in line
      for line in facts.warnings(sweep, rows)
    )
    == 2
  )


def test_an_interval_that_overflows_sets_no_digits():
  # A perplexity of e^400: its squares are beyond a float.
  wide = statistics.Interval(3, 1e173, -math.inf, math.inf, math.inf)
  narrow = statistics.Interval(3, 1.0, 0.9, 1.1, 0.04)
  assert tables.decimals_of([wide, narrow]) == tables.decimals_of([narrow]) == 2
  assert tables.decimals_of([wide]) == 0
