"""A figure is drawn again exactly where its data changed."""

import json

import pytest

from normjax import report
from normjax.report import load, plots, redraw, stats

SMALL = {
  "norms": {"rms_norm": 0.0, "dyt": 0.06},
  "optimizers": {"adamw": (0.0, 1e-3)},
  "trials": False,
  "diverged": (),
  "baseline": "rms_norm+adamw",
}


@pytest.fixture
def drawn(make_sweep):
  """Draws a sweep's figures from its files; names of those drawn anew."""
  out = make_sweep(**SMALL)
  report.write_report(out)

  def again():
    sweep = load.load(out)
    figures = plots.build(sweep, stats.summarize(sweep))
    found = redraw.draw(figures, out / "report" / "figures")
    return {each.figure.name for each in found if not each.old}

  return out, again


def test_only_what_changed_is_drawn(drawn):
  out, again = drawn
  assert again() == set()
  run = load.load(out).finals("dyt+adamw")[0].run_id
  path = out / "runs" / run / "result.json"
  result = json.loads(path.read_text())
  result["metrics"]["eval/loss"] += 1
  path.write_text(json.dumps(result))
  assert again() == {"intervals"}


def test_a_file_that_is_damaged_is_drawn_again(drawn):
  out, again = drawn
  figures = out / "report" / "figures"
  (figures / "curves.pdf").unlink()
  text = (figures / "time.svg").read_text()
  (figures / "time.svg").write_text(text[: len(text) // 2])
  assert again() == {"curves", "time"}


def test_other_code_draws_again(drawn, monkeypatch):
  _, again = drawn
  monkeypatch.setattr(redraw.metadata, "version", lambda name: "0.0")
  assert again() == {"intervals", "curves", "time"}
