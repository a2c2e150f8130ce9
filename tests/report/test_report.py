"""The written report: whole, self-contained, the same each time."""

import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from rich.console import Console

from normjax import errors, report
from normjax.report import (
  figure,
  load,
  page,
  provenance,
  redraw,
  run_pages,
)
from tests.report.conftest import base_config, write_run

_VOID = {"meta", "link", "br", "wbr", "hr", "img", "input"}


class _Checker(HTMLParser):
  """Collects ids, links and text; every tag must be closed in order."""

  def __init__(self):
    super().__init__()
    self.open, self.ids, self.links, self.text = [], [], [], []

  def handle_starttag(self, tag, attrs):
    self._attributes(attrs)
    if tag not in _VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self._attributes(attrs)

  def _attributes(self, attrs):
    for name, value in attrs:
      if name == "id":
        self.ids.append(value)
      if name in ("href", "src", "xlink:href"):
        self.links.append(value)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.text.append(data)


def _check(path):
  """A page whose links lead to files beside it; gives what it holds."""
  html = path.read_text()
  checker = _Checker()
  checker.feed(html)
  assert checker.open == []
  assert len(checker.ids) == len(set(checker.ids))
  for link in checker.links:
    if not link.startswith(("#", "data:")):
      assert (path.parent / link).is_file(), link
    if link.startswith("#"):
      assert link[1:] in checker.ids
  for target in re.findall(r"url\(([^)]*)\)", html):
    assert target[0] == "#"
    assert target[1:] in checker.ids
  assert "http" not in html
  return checker


@pytest.fixture(scope="module")
def written(finished_sweep):
  return report.write_report(finished_sweep)


def test_files(written, finished_sweep):
  directory = finished_sweep / "report"
  assert sorted(
    str(p.relative_to(directory))
    for p in directory.rglob("*")
    if p.is_file() and p.parent.name != "runs"
  ) == [
    "figures/curves.pdf",
    "figures/curves.svg",
    "figures/divergence.pdf",
    "figures/divergence.svg",
    "figures/intervals.pdf",
    "figures/intervals.svg",
    "figures/sensitivity_learning_rate.pdf",
    "figures/sensitivity_learning_rate.svg",
    "figures/time.pdf",
    "figures/time.svg",
    "report.html",
    "runs.csv",
    "table.csv",
    "table.md",
    "table.tex",
    "table_full.tex",
  ]
  assert {p.name for p in written.figures} == {
    p.name for p in (directory / "figures").glob("*.svg")
  }


def test_page_is_self_contained_and_well_formed(written):
  html = written.html.read_text()
  checker = _check(written.html)
  assert 'src="' not in html
  assert 'rel="stylesheet"' not in html
  text = " ".join(" ".join(checker.text).split())
  assert html.count("<svg") == len(written.figures)
  for expected in (
    "3 seeds and 8 comparisons: the first verdict needs |t| > 12.6",
    "Compared with layer_norm+adamw, of 8 methods: 5 better, 1 worse, 1 not"
    " distinguishable, 1 diverged.",
    "normjax sweep configs/sweeps/quickstart.py --out=quickstart",
    "optimizer.learning_rate: 4 tuning trials per method, 36 in all, the"
    " baseline too; seeds 0",
    "Best value on an edge of the grid: layer_norm+sinkgd",
    "Means over survivors only, which flatters: dyt+sinkgd.",
    "0123abcd",
    "Click on a column's name",
  ):
    assert expected in text


def test_writing_again_changes_nothing(written, finished_sweep):
  paths = (written.html, written.markdown, written.csv, written.tex)
  before = [path.read_bytes() for path in (*paths, *written.figures)]
  report.write_report(finished_sweep)
  after = [path.read_bytes() for path in (*paths, *written.figures)]
  assert before == after


def test_every_figure_gives_a_method_the_same_style(finished_sweep):
  sweep = load.load(finished_sweep)
  styles = figure.styles(sweep)
  looks = {(s.color, s.dash) for s in styles.values()}
  assert len(looks) == len(sweep.methods)
  # Norm × optimizer: colour tells the norm, line the optimizer.
  assert styles["dyt+muon"].color == styles["dyt+adamw"].color
  assert styles["dyt+muon"].dash == styles["rms_norm+muon"].dash


def test_thirty_methods_have_thirty_styles(make_sweep):
  norms = {f"norm_{i}": 0.01 * i for i in range(10)}
  out = make_sweep(norms=norms, seeds=(100,), trials=False, baseline=None)
  styles = figure.styles(load.load(out)).values()
  assert len({(s.color, s.dash) for s in styles}) == 30


def test_half_finished_sweep(make_sweep):
  out = make_sweep()
  sweep = load.load(out)
  for run in sweep.runs:
    if run.stage == "final" and run.seed > 100:
      for path in (out / "runs" / run.run_id).iterdir():
        path.unlink()
  first = sweep.finals("dyt+muon")[0].run_id
  with (out / "runs" / first / "metrics.jsonl").open("a") as file:
    file.write('{"step": 310, "kind": "tr')
  text = " ".join(_check(report.write_report(out).html).text)
  assert "This comparison is not complete" in text
  assert "9 of 27 final runs are over" in text
  assert f"runs/{first}/metrics.jsonl:37 is not a metric row" in text
  assert "1 of 3" in text


def test_planned_and_nothing_else(make_sweep):
  out = make_sweep()
  for path in (out / "runs").rglob("*.json*"):
    path.unlink()
  paths = report.write_report(out)
  assert paths.figures == ()
  assert "0 of 36 tuning runs are over" in paths.html.read_text()


def test_everything_diverged(make_sweep):
  lost = [
    (f"{n}+{o}", s, 50)
    for n in ("layer_norm", "dyt")
    for o in ("adamw", "muon")
    for s in (100, 101)
  ]
  out = make_sweep(
    norms={"layer_norm": 0.0, "dyt": 0.0},
    optimizers={"adamw": (0.0, 1e-3), "muon": (0.0, 1e-3)},
    seeds=(100, 101),
    diverged=lost,
    trials=False,
  )
  paths = report.write_report(out)
  assert [p.stem for p in paths.figures] == ["curves", "time", "divergence"]
  assert paths.html.read_text().count("diverged 2 of 2") >= 4


def test_provenance_that_differs_is_flagged(make_sweep):
  out = make_sweep()
  run = load.load(out).finals("dyt+muon")[0]
  path = out / "runs" / run.run_id / "run.json"
  text = path.read_text().replace('"cpu"', '"NVIDIA H200"')
  text = text.replace(
    '"dirty": false, "diff": ""', '"dirty": true, "diff": "+<b>"'
  )
  path.write_text(text)
  path = report.write_report(out).html
  html = path.read_text()
  _check(path)
  assert "differs between runs" in html
  assert "1 of 63 runs had uncommitted changes" in html
  assert "<pre>+&lt;b&gt;</pre>" in html


def test_names_are_escaped(make_sweep):
  norms = {"<script>alert(1)</script>": 0.0, 'a"&b': 0.1}
  out = make_sweep(norms=norms, baseline=None)
  path = report.write_report(out).html
  html = path.read_text()
  _check(path)
  assert html.count("<script>") == 1
  assert html.count("&lt;script&gt;alert") > 5


def test_a_page_per_run(written, finished_sweep):
  sweep = load.load(finished_sweep)
  folder = written.html.parent / "runs"
  assert len(list(folder.glob("*.html"))) == len(sweep.runs)
  run = sweep.finals("dyt+sinkgd")[1]
  page_of = _check(folder / f"{run.run_id}.html")
  # Training loss and gradient's norm, evaluated loss and accuracy: drawn
  # without a script too.
  html = (folder / f"{run.run_id}.html").read_text()
  assert html.count("<polyline") == html.count("<svg") == 4
  text = " ".join(" ".join(page_of.text).split())
  for expected in (
    "dyt+sinkgd, seed 101", "diverged", 'optimizer.name = "sinkgd"',
    "train: 14 rows",
  ):  # fmt: skip
    assert expected in text
  assert f"runs/{run.run_id}.html" in _check(written.html).links
  lines = (folder.parent / "runs.csv").read_text().splitlines()
  assert len(lines) == len(sweep.runs) + 1


def test_many_runs_stay_bounded(make_sweep, monkeypatch):
  out = make_sweep(trials=False)
  monkeypatch.setattr(page, "_MAX_LISTED", 5)
  monkeypatch.setattr(run_pages, "MAX_PAGES", 4)
  monkeypatch.setattr(redraw, "draw", lambda figures, folder: [])
  path = report.write_report(out).html
  text = " ".join(" ".join(_check(path).text).split())
  assert "5 of 27 runs" in text
  assert "4 of the runs have a page" in text
  assert len(list((path.parent / "runs").glob("*.html"))) == 4
  assert len((path.parent / "runs.csv").read_text().splitlines()) == 28


def test_stale_figure_is_removed(make_sweep):
  out = make_sweep(diverged=(), trials=False)
  old = out / "report" / "figures" / "divergence.svg"
  old.parent.mkdir(parents=True)
  old.write_text("<svg/>")
  report.write_report(out)
  assert not old.exists()
  assert not list((out / "report").glob(".new*"))


def test_a_report_that_fails_leaves_the_old_one(make_sweep, monkeypatch):
  out = make_sweep()
  html = report.write_report(out).html
  before = html.read_bytes()

  def broken(*_):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr("os.replace", broken)
  with pytest.raises(errors.RunError, match="No space left on device"):
    report.write_report(out)
  assert html.read_bytes() == before
  assert not list((out / "report").glob(".new*"))


def test_single_runs(make_sweep):
  out = make_sweep(trials=False)
  (out / "plan.json").unlink()
  paths = report.write_report(out / "runs")
  _check(paths.html)
  assert paths.markdown.read_text().startswith("| method | seeds | eval/loss")


def test_uncommitted_changes_are_found_wherever_a_single_run_lies(tmp_path):
  folder = tmp_path / "mine"
  write_run(
    folder, base_config(), 1.5,
    git={"commit": "0", "dirty": True, "diff_file": "a-normjax.diff"},
  )  # fmt: skip
  (folder / "sources").mkdir()
  (folder / "sources" / "a-normjax.diff").write_text("+x = 1")
  assert provenance.diffs(load.load(tmp_path)) == ["+x = 1"]


def test_missing_directory_is_not_made(tmp_path):
  with pytest.raises(errors.RunError, match="expected the directory"):
    report.write_report(tmp_path / "typo")
  assert not (tmp_path / "typo").exists()


def test_print_table(finished_sweep, capsys):
  report.print_table(finished_sweep, Console(width=120))
  text = capsys.readouterr().out
  assert "Best mean eval/loss: layer_norm+muon" in text
  assert "Not complete" not in text


def test_import_is_light():
  code = (
    "import sys, normjax.report as r; r.write_report;"
    "heavy = {'jax', 'matplotlib', 'scipy', 'numpy', 'rich', 'jinja2'};"
    "print(sorted(heavy & set(sys.modules)))"
  )
  result = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert result.stdout.strip() == "[]"
