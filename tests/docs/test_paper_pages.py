"""The page of published tables, of a user's own small table and of ours."""

import dataclasses

import pytest

from docs.generator import paper_pages
from normjax import errors, papers
from normjax.papers import kept, results, targets
from normjax.report import paper
from normjax.reproduce import listing, source
from tests.papers.conftest import write_targets as write_targets

HEAD = '''\
"""Does a | norm help?

Claim: it does.
Command: normjax reproduce tiny
"""

from normjax import papers

SCALES = ("proxy", "paper")


def get_config(arg="proxy"):
  raise AssertionError("nothing is built")


def table(scale):
  return papers.Table(
    "A table", "norms", "Table 1",
    [
      papers.Cell("ours", paper=("ours", "60M")),
      papers.Cell("theirs", paper=("theirs", "60M")),
    ],
    [papers.below("ours", "theirs"), papers.trains("ours")],
    "two cores", "Smaller", time="3 min", notes=["Baselines disagree"],
  )
'''
MADE = kept.Made("2026-01-02", "", {"jax": "0.11"}, "cpu", 2, 61, 90, 12)


@pytest.fixture
def entries(write_targets, tmp_path, monkeypatch):
  """The table at both scales, with results at the first one."""
  write_targets()
  # That of the config, which is none here.
  monkeypatch.setattr(source.Source, "sweep_id", lambda *_: "9f")
  file = tmp_path / "configs" / "papers" / "tiny.py"
  file.parent.mkdir(parents=True)
  file.write_text(HEAD)

  def entries(**changes):
    table = source.read(str(file)).table("proxy")
    cells = [
      kept.CellResult(
        row, "", "sweep", row, "eval/loss", 2, {0: mean, 1: mean + 0.1},
        tuned=True,
      )
      for row, mean in (("ours", 27.0), ("theirs", 30.0))
    ]  # fmt: skip
    stated = [
      kept.StatementResult(
        "ours is below theirs", "contradicted", 2, -3.0, -3.5, -2.5, 0.004
      ),
      kept.StatementResult(
        "ours diverges in no run", "confirmed", 2, 0.0, reason="in 2 of 2"
      ),
    ]
    known = kept.Results(
      "tiny", "norms", "proxy", papers.digest(table), {"sweep": "9f"},
      "contradicted", cells, stated, MADE,
    )  # fmt: skip
    folder = tmp_path / "experiments" / "norms" / "results"
    results.write(
      folder / "tiny_proxy.json", dataclasses.replace(known, **changes)
    )
    tiny = source.read(str(file))
    return [listing._entry(tiny, scale, []) for scale in tiny.scales]

  return entries


def _page(monkeypatch, found) -> str:
  monkeypatch.setattr(listing, "entries", lambda: (found, []))
  return paper_pages.page()


def test_a_verdict_stands_with_what_was_measured(entries, monkeypatch):
  page = _page(monkeypatch, entries())
  assert "| **contradicted** 1 of 2 | 1.5 min on 2 cores |" in page
  assert "Does a \\| norm help?" in page
  assert (
    "| ours is below theirs |  | > 0 | -3 [-3.5, -2.5] | **contradicted**, p"
    " 0.004 |"
  ) in page
  assert (
    "| ours diverges in no run |  | no run diverges | 0 | **confirmed** (in 2"
    " of 2) |"
  ) in page
  assert "| ours | 26.95 ± 0.02 | 27.05 |" in page
  assert "| theirs | 27 [1] | 30.05 |" in page
  assert "- [1] Second-hand, not read in the paper: s." in page.replace(
    "\\", ""
  )
  assert "12 runs, 61 s of CPU, cpu, 2026-01-02; jax 0.11." in page
  assert "- Baselines disagree." in page
  assert page.count("Known of the paper: The loss is divided") == 1
  assert (
    "`normjax reproduce tiny --scale=paper` needs two cores; 3 min. Otherwise"
    " than the paper: Smaller."
  ) in page
  assert "**At paper scale**: not run." in page


@pytest.mark.parametrize(
  "changes", [{"statements": "0123456789ab"}, {"protocol": 0}]
)
def test_of_stale_results_no_number_is_shown(entries, monkeypatch, changes):
  page = _page(monkeypatch, entries(**changes))
  assert "stale: made under" in page
  assert "| **contradicted**" not in page
  assert "27.05" not in page


def test_of_another_config_since_the_numbers_stay(entries, monkeypatch):
  page = _page(monkeypatch, entries(plans={"sweep": "another"}))
  assert "| **contradicted** 1 of 2, config changed since | 1.5 min" in page
  assert "| theirs | 27 [1] | 30.05 |" in page


def test_kept_verdicts_follow_from_the_kept_values():
  """Of all that is committed: a number or a verdict that was edited shows."""
  for entry in listing.entries()[0]:
    if entry.results is None or entry.results.stale(entry.table):
      continue
    cells = paper.committed(entry.table, entry.results)
    again = paper.judge(entry.table, entry.scale, cells).statements
    for now, before in zip(again, entry.results.expected, strict=True):
      where = (entry.source.name, entry.scale, before.claim)
      assert (now.verdict, now.reason) == (before.verdict, before.reason), where
      assert now.interval.n == before.n, where
      if before.mean is not None:
        # A sum of values that are rounded may cancel.
        size = max(abs(v) for c in cells.values() for v in c.values.values())
        assert abs(now.interval.mean - before.mean) <= 1e-5 * size, where


def test_what_is_not_there_yet_says_what_is_missing():
  found = paper_pages.not_yet()
  page = paper_pages.page()
  assert len(found) > 40
  for record in found:
    assert record["missing"] in page.replace("\\", "")


def test_what_is_there_is_not_called_missing():
  """At the paper's scale: an entry goes where its table has come."""
  entries, problems = listing.entries()
  assert problems == []
  there = {
    (e.table.paper, e.table.target) for e in entries if e.scale == "paper"
  }
  for record in paper_pages.not_yet():
    name = record["paper"]
    if "rows" in record:
      continue
    if "tables" not in record:
      assert name not in {paper for paper, _ in there}, name
    for table in record.get("tables", ()):
      assert (name, table) not in there, (name, table)


def test_tables_that_are_missing_are_those_of_the_targets():
  """As far as the paper's targets are here."""
  known = targets.papers()
  for record in paper_pages.not_yet():
    if record["paper"] in known:
      tables = targets.read(record["paper"]).tables
      assert set(record.get("tables", ())) <= set(tables), record["paper"]


@pytest.mark.parametrize(
  ("text", "said"),
  [
    ('[[papers]]\npaper = "a"\n', "paper 1: no 'title'"),
    ("[[paper]]\n", "unknown key 'paper'"),
    ('papers = "x"\n', "allowed: a list"),
  ],
)
def test_a_faulty_list_is_refused(tmp_path, text, said):
  file = tmp_path / "not_yet.toml"
  file.write_text(text)
  with pytest.raises(errors.UserError, match="not_yet") as error:
    paper_pages.not_yet(file)
  assert said in str(error.value)
