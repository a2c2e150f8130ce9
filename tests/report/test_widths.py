"""Exponents of ranks over widths, of sweeps whose exponents are known."""

import dataclasses

import pytest
import rich.console

from normjax import report
from normjax.record.comparison import Method
from normjax.record.directory import RunState
from normjax.report import page, stats, tables, widths
from normjax.report.load import Run, SweepRecord
from normjax.statistics import mean_interval

WIDTHS = {"1x": 64, "2x": 128, "4x": 256, "8x": 512}
EXPONENTS = {"AdamW": 0.3, "Muon": 0.8}
HARD = "eval/ffn_hard_rank"


def _sweep(tmp_path, seeds=(1, 2, 3), pending=(), names=tuple(WIDTHS)):
  methods, runs = [], []
  for method, exponent in EXPONENTS.items():
    for name in names:
      label = f"{method} {name}"
      overrides = {"optimizer.name": method, widths.WIDTH: WIDTHS[name]}
      methods.append(Method(label, overrides))
      for seed in seeds:
        rank = 2 * WIDTHS[name] ** (exponent + seed / 100)
        metrics = {HARD: rank, "eval/loss": 1.0}
        metrics["eval/ffn_soft_rank(log=True)"] = 1.0
        state = RunState.DONE
        if (label, seed) in pending:
          state, metrics = RunState.PENDING, {}
        runs.append(
          Run(
            f"{label}{seed}", "final", label, overrides, seed, state,
            result={"metrics": metrics},
          )
        )  # fmt: skip
  return SweepRecord(
    tmp_path, "id", "config.py", {}, "eval/loss", "min", None, (), 0,
    tuple(methods), tuple(runs),
  )  # fmt: skip


def test_exponents_are_those_of_each_seed(tmp_path):
  found = widths.analyse(_sweep(tmp_path))
  assert [(each.method, each.metric) for each in found] == [
    ("AdamW", HARD), ("Muon", HARD),
  ]  # fmt: skip
  for each in found:
    want = [EXPONENTS[each.method] + seed / 100 for seed in (1, 2, 3)]
    assert {s: f.exponent for s, f in each.exponents.items()} == pytest.approx(
      dict(zip((1, 2, 3), want, strict=True))
    )
    over_seeds = mean_interval(want)
    assert (each.interval.low, each.interval.high) == pytest.approx(
      (over_seeds.low, over_seeds.high)
    )
  (_, muon) = widths.table(found).rows
  assert [cell.text for cell in muon[:4]] == [
    "Muon", "ffn_hard_rank", "0.82 [0.80, 0.84]", "3",
  ]  # fmt: skip
  header, *lines = widths.comma_separated(found).splitlines()
  assert header.startswith("method,metric,seed,exponent,")
  assert header.endswith(
    "mean_rank_64,mean_rank_128,mean_rank_256,mean_rank_512"
  )
  assert len(lines) == 6


def test_a_seed_without_a_width_has_no_exponent(tmp_path):
  pending = (("Muon 4x", 2), ("AdamW 1x", 2), ("AdamW 1x", 3))
  adamw, muon = widths.analyse(_sweep(tmp_path, pending=pending))
  assert set(adamw.exponents) == {1}
  assert set(muon.exponents) == {1, 3}
  # One seed has the residuals of its line: here there are none.
  assert adamw.interval.low == pytest.approx(0.31)
  assert "of the line's residuals" in " ".join(widths.table([adamw]).notes)


def test_two_widths_or_no_rank_have_no_table(tmp_path):
  assert not widths.analyse(_sweep(tmp_path, names=("1x", "8x")))
  sweep = _sweep(tmp_path)
  bare = [
    dataclasses.replace(run, result={"metrics": {"eval/loss": 1.0}})
    for run in sweep.runs
  ]
  assert not widths.analyse(dataclasses.replace(sweep, runs=tuple(bare)))


def test_the_page_and_the_terminal_have_them(tmp_path):
  sweep = _sweep(tmp_path)
  rows = stats.summarize(sweep)
  found = widths.analyse(sweep)
  text = page.render(
    sweep, rows, tables.build(sweep, rows), [], {}, None, found
  )
  assert "Ranks over widths" in text
  assert "table_widths.csv" in text
  assert "0.82" in text
  without = page.render(sweep, rows, tables.build(sweep, rows), [], {})
  assert "Ranks over widths" not in without
  console = rich.console.Console(width=200, record=True)
  report._print(sweep, rows, console)
  assert "0.82 [0.80, 0.84]" in console.export_text()
