"""The metric against bytes at a real size: figure, columns, what is missing."""

import csv
import dataclasses
import io
import json

import pytest
from matplotlib.text import Text

from normjax.record import costs as costs_lib
from normjax.report import (
  drawing,
  facts,
  figure,
  formats,
  load,
  stats,
  tables,
)
from normjax.report.plots import pareto

METHODS = {
  "norms": {"layer_norm": 0.0},
  "optimizers": {
    "adamw": (0.0, 1e-3),
    "muon": (-0.2, 1e-3),
    "sgd": (0.5, 1e-3),
    "lion": (0.2, 1e-3),
    "zo": (1.0, 1e-3),
  },
  "seeds": (100, 101),
  "diverged": (),
  "trials": False,
}
# MB. Muon beats AdamW in both, SGD is the leanest but ZO, Lion is as large.
PEAKS = {"adamw": 900, "muon": 600, "sgd": 500, "lion": 600, "zo": 100}


def cost(peak_bytes):
  fields = {field.name: 7 for field in dataclasses.fields(costs_lib.Cost)}
  return {
    **fields,
    "peak_bytes": peak_bytes,
    "flops": None,
    "paper_weights_bytes": 200,
    "paper_state_bytes": 300,
  }


@pytest.fixture
def measured(make_sweep):
  """A sweep that has costs of all but one of its methods."""

  def make(missing=("layer_norm+lion",), **options):
    out = make_sweep(**METHODS, **options)
    plan = json.loads((out / "plan.json").read_text())
    found = {
      f"layer_norm+{name}": cost(mb * 10**6) for name, mb in PEAKS.items()
    }
    plan["costs"] = {
      "file": "experiments/memory/a.json",
      "target": "h200",
      "model": "llama 60m",
      "methods": {k: v for k, v in found.items() if k not in missing},
      "missing": dict.fromkeys(missing, "compiled with another config"),
    }
    (out / "plan.json").write_text(json.dumps(plan))
    sweep = load.load(out)
    assert not sweep.problems
    return sweep, stats.summarize(sweep)

  return make


def test_the_front_and_what_is_beside_it(measured):
  sweep, rows = measured()
  (found,) = pareto.build(sweep, rows)
  memory, lasting, time = found.panels
  assert lasting.x_label == "parameters, state, gradients, MB"
  assert {each.x[0] for each in lasting.series[1:]} == {5 * 7 / 1e6}
  assert memory.x_label == "peak of a step compiled for h200, MB"
  assert time.x_label == "training time / layer_norm+adamw"
  looks = {each.label: each.look for each in memory.series[1:]}
  assert looks == {
    "layer_norm+adamw": figure.FAINT,  # Muon is smaller, and better.
    "layer_norm+muon": figure.POINTS,
    "layer_norm+sgd": figure.POINTS,
    "layer_norm+zo": figure.POINTS,
  }
  # From the leanest: right, then down to the next, and right to the end.
  stairs, *points = memory.series
  ys = {each.label: each.y[0] for each in points}
  zo, sgd, muon = (ys[f"layer_norm+{name}"] for name in ("zo", "sgd", "muon"))
  assert stairs.x == (100, 500, 500, 600, 600, 900)
  assert stairs.y == (zo, zo, sgd, sgd, muon, muon)
  # The baseline's time is 1.
  at = {each.label: each.x[0] for each in time.series[1:]}
  assert at["layer_norm+adamw"] == 1
  # A tag is the place in the plan, and stays where methods are left out.
  assert found.tags["layer_norm+zo"] == "5"
  assert "Not drawn: layer_norm+lion: compiled with another" in found.caption
  assert "verdicts are in the table" in found.caption
  assert "which was not trained here" in found.caption


def test_a_diverged_method_is_on_no_front(measured):
  lost = (("layer_norm+muon", 100, 40),)
  sweep, rows = measured(missing=())
  (whole,) = pareto.build(sweep, rows)
  rows = [
    dataclasses.replace(row, diverged={100: 40})
    if row.label == lost[0][0]
    else row
    for row in rows
  ]
  (found,) = pareto.build(sweep, rows)
  for each, look in ((whole, figure.POINTS), (found, figure.FAINT)):
    looks = {s.label: s.look for s in each.panels[0].series}
    assert looks["layer_norm+muon"] == look


def test_what_is_far_worse_does_not_flatten_the_rest(measured):
  """A mean more than three times as far from the best as the median is."""
  sweep, rows = measured(missing=())
  (found,) = pareto.build(sweep, rows)
  assert figure.LOST not in {each.look for each in found.panels[0].series}
  assert found.panels[0].y_limits == ()  # Whole intervals are shown.
  assert "× at the edge" not in found.caption
  rows = [
    dataclasses.replace(row, interval=dataclasses.replace(row.interval, mean=9))
    if row.label == "layer_norm+zo"
    else row
    for row in rows
  ]
  (found,) = pareto.build(sweep, rows)
  panel = found.panels[0]
  looks = {each.label: each for each in panel.series[1:]}
  far = looks.pop("layer_norm+zo")
  assert far.look == figure.LOST
  low, high = panel.y_limits
  assert (far.low, far.tag, panel.worse) == ((), "5", "top")
  assert far.y == pytest.approx((high - 0.02 * (high - low),))
  assert high < 9
  assert all(each.look != figure.LOST for each in looks.values())
  assert "× at the edge: a mean" in found.caption
  ax = drawing._draw(found, drawing._PAGE).axes[0]
  assert "5" in {text.get_text() for text in ax.texts}
  (legend,) = ax.figure.legends
  told = {line.get_label(): line for line in legend.get_lines()}
  assert told["5 layer_norm+zo"].get_marker() == "x"
  assert told["1 layer_norm+adamw"].get_marker() == "o"
  assert {
    line.get_linestyle() for name, line in told.items() if name[0].isdigit()
  } == {"None"}


def test_better_may_be_larger():
  points = {"a": (1.0, 0.5), "b": (2.0, 0.4), "c": (2.0, 0.7), "d": (1.0, 0.5)}
  assert [*pareto.front(points, "max")] == ["a", "d", "c"]
  assert [*pareto.front(points, "min")] == ["a", "d", "b"]


def test_no_figure_without_costs_of_two_methods(measured, make_sweep):
  labels = [f"layer_norm+{name}" for name in PEAKS]
  sweep, rows = measured(missing=tuple(labels[1:]))
  assert pareto.build(sweep, rows) == []
  # They are named all the same.
  said = facts.warnings(sweep, rows)
  assert [line for line in said if line.startswith("no bytes of")] == [
    f"no bytes of {label} in experiments/memory/a.json: compiled with another"
    " config"
    for label in labels[1:]
  ]


def test_columns(measured):
  sweep, rows = measured()
  table = tables.build(sweep, rows)
  columns = {column.key: i for i, column in enumerate(table.columns)}
  shown = {row[0].text: row for row in table.rows}
  peak, paper = columns["compiled_peak_bytes"], columns["paper_bytes"]
  assert table.columns[peak].header == "llama 60m: peak, h200"
  assert shown["layer_norm+muon"][peak].text == "600.00 MB"
  assert shown["layer_norm+muon"][paper].text == "500 B"
  assert shown["layer_norm+lion"][peak].text == tables.NOTHING
  assert any("compiled and not run" in note for note in table.notes)
  lines = [*csv.DictReader(io.StringIO(formats.comma_separated(sweep, rows)))]
  values = {line["method"]: line["compiled_peak_bytes"] for line in lines}
  assert values["layer_norm+zo"] == "100000000"
  assert values["layer_norm+lion"] == ""


def test_a_damaged_plan_is_named(measured, tmp_path):
  sweep, _ = measured()
  plan = json.loads((sweep.directory / "plan.json").read_text())
  del plan["costs"]["methods"]["layer_norm+zo"]["peak_bytes"]
  (sweep.directory / "plan.json").write_text(json.dumps(plan))
  with pytest.raises(Exception, match="has costs = .*costs or null is needed"):
    load.load(sweep.directory)


@pytest.mark.parametrize("layout", [drawing._PAGE, drawing._COLUMN])
def test_tags_cover_nothing(layout):
  """Of 30 methods in a heap each tag is beside all markers and other tags."""
  count = 30
  series = tuple(
    figure.Series(
      f"method {i}",
      (100.0 + 7 * (i % 6) + i,),
      (2.0 + 0.03 * (i % 5) + 0.01 * i,),
      look=figure.POINTS,
      tag=str(i + 1),
    )
    for i in range(count)
  )
  styles = {
    each.label: figure.Style(figure.COLORS[i % 8], (), figure.MARKERS[i % 4])
    for i, each in enumerate(series)
  }
  panel = figure.Lines("heap", "MB", series, "loss")
  drawn = drawing._draw(figure.Figure("a", "a", "a", (panel,), styles), layout)
  (ax,) = drawn.axes
  for text in ax.texts:
    text.get_window_extent()  # Puts it in its place.
  # Of the texts alone: lines may lead to them.
  boxes = [Text.get_window_extent(text) for text in ax.texts]
  assert [text.get_text() for text in ax.texts] == [s.tag for s in series]
  overlaps = [
    (i, j)
    for i, one in enumerate(boxes)
    for j, other in enumerate(boxes[:i])
    if one.overlaps(other)
  ]
  assert not overlaps
