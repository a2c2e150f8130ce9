"""Targets in a report: a run that never reaches one is in no mean."""

import csv
import io
import json

import pytest

from normjax.report import (
  facts,
  formats,
  load,
  page,
  plots,
  redraw,
  stats,
  tables,
  verdicts,
)

STEPS = "steps_to(eval/loss<=1.9)"
SECONDS = "seconds_to(eval/loss<=1.9)"


@pytest.fixture
def make(make_sweep):
  """A sweep of two methods and three seeds; `late` never reach the target."""

  def write(late=(), diverged=()):
    out = make_sweep(
      norms={"layer_norm": 0.0, "dyt": 0.0}, trials=False,
      optimizers={"adamw": (0.0, 1e-3)}, diverged=diverged,
    )  # fmt: skip
    path = out / "plan.json"
    plan = json.loads(path.read_text())
    plan |= {"metric": STEPS, "other_metrics": [SECONDS]}
    path.write_text(json.dumps(plan))
    for point in plan["points"]:
      if (point["method"], point["seed"]) in late:
        file = out / "runs" / point["run_id"] / "metrics.jsonl"
        rows = map(json.loads, file.read_text().splitlines())
        rows = [r | {"loss": 3.0} if r["kind"] == "eval" else r for r in rows]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sweep = load.load(out)
    return sweep, stats.summarize(sweep)

  return write


def _cell(sweep, rows, method, key):
  table = tables.build(sweep, rows)
  index = [column.key for column in table.columns].index(key)
  (row,) = (row for row in table.rows if row[0].text == method)
  return row[index].text


def test_where_all_reach_it_it_is_a_metric_as_others_are(make):
  sweep, rows = make()
  assert _cell(sweep, rows, "dyt+adamw", "metric").startswith("150 ")
  assert _cell(sweep, rows, "dyt+adamw", SECONDS).startswith("1.50")
  assert rows[1].verdict == verdicts.SAME


@pytest.mark.parametrize("method", ["dyt+adamw", "layer_norm+adamw"])
def test_one_run_that_does_not_leaves_no_mean_and_no_verdict(make, method):
  sweep, rows = make(late=[(method, 101)])
  assert _cell(sweep, rows, method, "metric") == "reached 2 of 3, median 150"
  assert _cell(sweep, rows, method, SECONDS) == "reached 2 of 3, median 1.5"
  assert _cell(sweep, rows, method, "n") == "3"
  assert rows[1].verdict == verdicts.NOT_REACHED
  assert rows[1].difference.interval.mean is None
  notes = " ".join(tables.build(sweep, rows).notes)
  assert "would need is not known" in notes
  assert facts.warnings(sweep, rows) == []


def test_the_files_of_numbers_have_them_too(make):
  """Whole steps are shown as such."""
  sweep, rows = make(late=[("dyt+adamw", 101)])
  first, second = csv.DictReader(
    io.StringIO(formats.comma_separated(sweep, rows))
  )
  assert (first[f"{STEPS}_reached"], second[f"{STEPS}_reached"]) == ("3", "2")
  assert (first[SECONDS], second[SECONDS]) == ("1.5", "")
  each = list(csv.DictReader(io.StringIO(formats.runs(sweep))))
  assert sorted({run[SECONDS] for run in each}) == ["", "1.5"]
  assert _cell(sweep, rows, "layer_norm+adamw", "metric") == "150 ± 0"


def test_a_run_that_diverged_has_not_reached_it(make):
  sweep, rows = make(diverged=[("dyt+adamw", 101, 200)])
  assert _cell(sweep, rows, "dyt+adamw", "metric").startswith("reached 2 of 3")
  assert _cell(sweep, rows, "dyt+adamw", "n") == "2 of 3"


def test_the_page_is_made_where_nobody_reaches_it(make):
  labels = ("dyt+adamw", "layer_norm+adamw")
  every = [(label, seed) for label in labels for seed in (100, 101, 102)]
  sweep, rows = make(late=every)
  figures = redraw.draw(plots.build(sweep, rows), sweep.directory)
  assert "curves" in {each.figure.name for each in figures}
  text = page.render(sweep, rows, tables.build(sweep, rows), figures, {})
  assert "reached 0 of 3" in text
