"""A judged table as files and in the terminal, against text written by hand."""

import csv
import html.parser
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from normjax import errors, papers
from normjax.papers import kept, results
from normjax.report import paper
from normjax.report.paper import footnotes, show
from tests.report.paper.conftest import around, computed, stated, trained

MADE = kept.Made("2026-01-02", "", {}, "cpu", 2, 1.0, 2.0, 10)
GOLDEN = (Path(__file__).parent / "table_golden.md").read_text()
CELLS = [
  papers.Cell("ours", "60M", paper=("ours", "60M")),
  papers.Cell("theirs", "60M", paper=("theirs", "60M")),
  papers.Cell("none", "60M", paper=("none", "60M")),
  papers.Cell("memory", "60M", paper=("memory", "60M")),
  papers.Cell("steps", part="measure"),
]
MEASURED = {
  ("ours", "60M"): trained(around(26.9, 0.05), is_tuned=False),
  ("theirs", "60M"): trained(around(30.9, 0.05), is_tuned=False),
  ("none", "60M"): trained({0: 50.0}, (1, 2, 3, 4), is_tuned=False),
  ("memory", "60M"): trained(around(31, 0.05), on_edge=True, is_tuned=False),
  "steps": computed(308),
}
EXPECTED = [
  papers.below(("ours", "60M"), ("theirs", "60M"), by=1, source="abstract"),
  papers.below(("theirs", "60M"), ("ours", "60M"), claim="Theirs is better"),
  papers.above(("none", "60M"), ("ours", "60M")),
  papers.diverges(("none", "60M")),
  papers.exactly("steps", 308),
]


@pytest.fixture
def judged(write_targets):
  """The table at a scale."""
  write_targets()

  def judged(scale="proxy", **more):
    table = stated(
      *EXPECTED, cells=CELLS, target="Table 1", parts=("sweep", "measure"),
      notes=["Baselines disagree"],
    )  # fmt: skip
    return paper.judge(table, scale, MEASURED, **more)

  return judged


def test_without_the_papers_numbers_no_word_says_what_agrees(write_targets):
  write_targets()
  table = stated(cells=[papers.Cell("steps", part="measure")],
                 parts=("measure",))  # fmt: skip
  judged = paper.judge(table, "paper", {"steps": computed(308)})
  assert "agrees" not in " ".join(footnotes.on_cells(judged))


def test_markdown(judged, tmp_path):
  paths = paper.write(tmp_path, judged("paper", head=["overridden: seed=1"]))
  assert paths.markdown.read_text() == GOLDEN


def test_what_is_said_at_a_proxy_scale(judged, tmp_path):
  text = paper.write(tmp_path, judged()).markdown.read_text()
  assert "# A table, at proxy scale" in text
  assert "agrees" not in text
  assert "differs" not in text
  assert "measured - paper" not in text
  assert "the paper's numbers stand beside, and are not judged" in text
  assert "| 27 [1] |" in text
  assert "[1] Second-hand, not read in the paper: s." in text
  assert "30.5" not in text
  assert "| unverified: not printed |" in text
  assert "| diverged |" in text
  assert "Untuned:" in text
  assert "Known of the paper: The loss is divided by n + 1. (code)" in text
  assert "best epoch" not in text  # It is about another table.


def test_a_contradiction_is_as_prominent_as_a_confirmation(judged, tmp_path):
  paths = paper.write(tmp_path, judged())
  assert "Verdict: contradicted 1 of 5." in paths.markdown.read_text()
  page = paths.html.read_text()
  assert '<p class="lead">Verdict: contradicted 1 of 5.</p>' in page
  assert '<span class="verdict better">confirmed</span>' in page
  assert '<span class="verdict worse">contradicted</span>' in page


def test_of_other_runs_the_statements_have_no_verdict(write_targets):
  write_targets()
  cells = [papers.Cell("ours"), papers.Cell("theirs")]
  values = {"ours": trained([1.0, 2.0]), "theirs": trained([2.0, 3.0])}
  for direction, arrow in (("lower", "measured ↓"), ("", "measured")):
    table = stated(cells=cells, direction=direction)
    judged = paper.judge(table, "proxy", values, head=["overridden: seed=1"])
    text = show.markdown(judged)
    assert "Verdict: none, as what was stated is not about these runs." in text
    assert f"| {arrow} |" in text
    assert "undecided" not in text


def test_csv_and_json_have_unrounded_numbers(judged, tmp_path):
  paths = paper.write(tmp_path, judged("paper"))
  rows = list(csv.DictReader(io.StringIO(paths.csv.read_text())))
  assert [row["kind"] for row in rows] == ["cell"] * 5 + ["statement"] * 5
  ours = MEASURED["ours", "60M"].values
  assert float(rows[0]["mean"]) == pytest.approx(sum(ours.values()) / 5)
  assert (rows[0]["paper"], rows[1]["paper_mark"]) == ("26.95", "secondary")
  assert (rows[2]["paper"], rows[3]["paper"]) == ("diverged", "")
  assert rows[6]["verdict"] == "contradicted"
  said = json.loads(paths.json.read_text())
  assert (said["verdict"], said["arxiv"]) == ("contradicted", "2001.00001")
  assert said["cells"][0]["values"] == {str(k): v for k, v in ours.items()}
  assert said["statements"][0]["p_value"] < said["statements"][0]["p_holm"]
  assert said["complete"] is True


def test_the_page_links_to_the_reports_that_are_there(judged, tmp_path):
  report = tmp_path / "sweep" / "report" / "report.html"
  page = paper.write(tmp_path, judged()).html.read_text()
  assert "report.html" not in page
  report.parent.mkdir(parents=True)
  report.write_text("")
  page = paper.write(tmp_path, judged()).html.read_text()
  assert '<a href="sweep/report/report.html">sweep</a>' in page


def test_the_terminal_shows_verdicts_at_any_width(judged):
  for width in (60, 160):
    file = io.StringIO()
    paper.print_table(judged(), Console(file=file, width=width))
    text = file.getvalue()
    assert "contradicted" in text
    assert "Verdict: contradicted 1 of 5." in text
    assert max(map(len, text.splitlines())) <= width


NAMES = [
  "a|b",
  "<b>&amp;</b>",
  "été ß 模型",
  "x\u202ey\nz",
  "[link](x)",
  "#*_`$",
]


@pytest.mark.parametrize("scale", ["proxy", "paper"])
def test_names_may_hold_anything(write_targets, tmp_path, scale):
  write_targets()
  table = stated(
    *(papers.at_least(name, 0, source=name) for name in NAMES),
    refs=NAMES, notes=NAMES, units=NAMES[0],
  )  # fmt: skip
  judged = paper.judge(table, scale, {n: trained([1.0, 2.0]) for n in NAMES})
  paths = paper.write(tmp_path, judged)
  lines = paths.markdown.read_text().splitlines()
  bars = {
    line.replace(r"\|", "").count("|") for line in lines if line[:1] == "|"
  }
  assert bars == {8, 6 + 2 * (scale == "paper")}
  page = paths.html.read_text()
  assert "<b>&amp;" not in page
  assert "\u202e" not in page
  html.parser.HTMLParser().feed(page)
  rows = list(csv.DictReader(io.StringIO(paths.csv.read_text())))
  assert [row["name"] for row in rows[: len(NAMES)]] == NAMES
  paper.print_table(judged, Console(file=io.StringIO()))


def test_a_part_of_a_table_is_written_too(write_targets, tmp_path):
  write_targets()
  table = stated(papers.above("a", "b"), refs="ab")
  judged = paper.judge(
    table, "proxy", {"a": trained([1.0], planned=5), "b": paper.Measured()}
  )
  paths = paper.write(tmp_path, judged)
  text = paths.markdown.read_text()
  assert "undecided (a: 1 of 5 runs)" in text
  assert "| 1 of 5 |" in text
  assert "| not run |" in text
  assert "Not every run is over" in paths.html.read_text()
  assert not judged.is_complete


def test_numbers_of_any_size_are_shown(write_targets, tmp_path):
  write_targets()
  cells = {
    "a": computed(3e-16), "b": computed(1e300, 2e300, 3e300),
    "c": computed(123456789012), "d": trained([1e308] * 3),
  }  # fmt: skip
  table = stated(
    papers.at_most("a", 1e-12), cells=[
      papers.Cell(r, part="sweep" if r == "d" else "measure") for r in cells
    ], parts=("sweep", "measure"),
  )  # fmt: skip
  judged = paper.judge(table, "paper", cells)
  text = paper.write(tmp_path, judged).markdown.read_text()
  assert judged.verdict == "confirmed"
  assert "| 3e-16 |" in text
  assert "too large" in text
  json.loads((tmp_path / "table.json").read_text())


def test_a_folder_that_cannot_be_written_is_named(judged, tmp_path):
  (tmp_path / "out").write_text("")
  with pytest.raises(errors.RunError, match="cannot write"):
    paper.write(tmp_path / "out", judged())


def test_what_is_committed_is_what_was_judged(judged):
  found = paper.results(judged(), "depth", {"sweep": "9f86"}, MADE)
  assert (found.verdict, found.scale, found.paper) == (
    "contradicted", "proxy", "norms",
  )  # fmt: skip
  assert found.stale(judged().table) == ""
  assert found.cells[2].diverged == [1, 2, 3, 4]
  assert found.cells[0].values == MEASURED["ours", "60M"].values
  assert [each.verdict for each in found.expected] == [
    "confirmed", "contradicted", "undecided", "undecided", "confirmed",
  ]  # fmt: skip


def test_what_is_committed_is_judged_as_it_was(judged, tmp_path):
  """From the file alone, with the resolution that decides the last one."""
  before = judged()
  steps = stated(papers.at_least("a", 0.5), refs="a")
  cells = {"a": trained([0.9] * 5, resolution=0.1)}
  for each in (before, paper.judge(steps, "proxy", cells)):
    file = tmp_path / "r.json"
    results.write(file, paper.results(each, "depth", {}, MADE))
    cells = paper.committed(each.table, results.read(file))
    again = paper.judge(each.table, "proxy", cells)
    assert [(s.verdict, s.reason) for s in again.statements] == [
      (s.verdict, s.reason) for s in each.statements
    ]
    assert again.untuned == each.untuned
  assert again.verdict == "confirmed"


@pytest.mark.parametrize(
  ("cell", "verdict", "reason"),
  [
    # A target that two runs ended without reaching; one has diverged.
    (
      {"values": {}, "diverged": [3], "seeds": {1, 2, 3}, "censored": True},
      "undecided", "in 2 of 3 runs",
    ),
    # Three runs on two folds.
    (
      {"values": {-1: 0.1, -2: 0.2}, "diverged": [], "seeds": {1, 2, 3}},
      "confirmed", "in 3 of 3 runs",
    ),
  ],
)  # fmt: skip
def test_divergence_is_kept_where_runs_have_no_value(
  judged, tmp_path, cell, verdict, reason
):
  judged()  # Its targets are there.
  cell = {**cell, "diverged": frozenset(cell["diverged"])}
  cells = {
    "a": paper.Measured(num_over=3, num_planned=3, is_tuned=True, **cell)
  }
  table, file = stated(papers.trains("a"), refs="a"), tmp_path / "r.json"
  before = paper.judge(table, "proxy", cells)
  results.write(file, paper.results(before, "depth", {}, MADE))
  again = paper.judge(
    table, "proxy", paper.committed(table, results.read(file))
  )
  for each in (before, again):
    found = each.statements[0]
    assert (found.verdict, found.reason) == (verdict, reason)
