"""Committed results: written small, read strictly, stale where they are."""

import dataclasses
import json

import pytest

from normjax import errors, papers
from normjax.papers import kept, results

MADE = kept.Made(
  "2026-01-02", "0123abc", {"jax": "0.11.2"}, "cpu", 2, 123.456, None, 20
)
SAMPLE = kept.Results(
  name="depth",
  paper="norms",
  scale="proxy",
  statements="0123456789ab",
  plans={"sweep": "9f86d081884c"},
  verdict="contradicted",
  cells=[
    kept.CellResult(
      "sélu | 32", "", "sweep", "selu", "eval/accuracy", 3,
      {100: 0.1 + 0.2, 101: 0.96}, (102,),
    ),
    kept.CellResult("n", "c", "measure", "n", "", 1, {0: 308.0}),
  ],
  expected=[
    kept.StatementResult(
      "a is above b", "contradicted", 2, -1 / 3, -0.5, -0.1, 0.01234567
    ),
    kept.StatementResult("a diverges", "undecided", 2, reason="in 1 of 2"),
  ],
  made=MADE,
)  # fmt: skip


def test_what_is_written_is_read_again(tmp_path):
  file = tmp_path / "x" / "depth_proxy.json"
  results.write(file, SAMPLE)
  found = results.read(file)
  assert found.cells[0].values == {100: 0.3, 101: 0.96}
  assert found.cells[1].values == {0: 308}
  assert found.expected[0].mean == pytest.approx(-1 / 3, rel=1e-6)
  assert found.expected[0].p_holm == 0.0123
  assert found.made == dataclasses.replace(MADE, cpu_s=123)
  # So that a second saving changes nothing.
  assert results.dumps(found) == file.read_text()


def test_whole_numbers_are_kept_exactly():
  assert results.rounded([123456789.0, 2.0**53, 1 / 3, 1e300]) == [
    123456789, 2**53, 0.3333333, 1e300,
  ]  # fmt: skip


def test_a_cell_and_a_statement_have_a_line_of_their_own():
  lines = results.dumps(SAMPLE).splitlines()
  assert sum("sélu | 32" in line for line in lines) == 1
  assert sum('"claim"' in line for line in lines) == 2


@pytest.mark.parametrize(
  ("path", "value", "said"),
  [
    (("verdict",), "better", "verdict='better'; allowed: confirmed, contra"),
    (("schema",), 2, "schema=2; allowed: 1"),
    (("scale",), "tiny", "scale='tiny'"),
    (("protocol",), "1", "protocol='1'"),
    (("protocol",), True, "protocol=True"),
    (("more",), 1, "unknown key 'more'"),
    (("cells", 0, "planned"), -1, "cell 1: planned=-1"),
    (("cells", 0, "values"), {"a": 1.0}, "cell 1: 'a' is no seed"),
    (("cells", 0, "values"), {"1": None}, "cell 1: 1=None; allowed: a finite"),
    (("cells", 0, "values"), {"01": 1.0}, "cell 1: '01' is no seed"),
    (("cells", 0, "diverged"), [1.5], "cell 1: 1.5 is no seed"),
    (("cells", 0, "planned"), 2, "cell 1: 2 values and 1 diverged of planned"),
    (("cells", 0, "diverged"), [1, 1], "cell 1: 2 values and 2 diverged"),
    (("verdict",), "confirmed", "of its statements it is 'contradicted'"),
    (("cells", 0, "values"), [1], "cell 1: values=[1]; allowed: a mapping"),
    (("cells", 1, "row"), "", "cell 2: row=''"),
    (("cells", 1, "tuned"), 1, "tuned=1; allowed: true, false, null"),
    (("cells", 1, "resolution"), -1, "cell 2: resolution=-1"),
    (("expected", 1, "verdict"), None, "statement 2: verdict=None"),
    (("expected", 0, "mean"), "x", "statement 1: mean='x'"),
    (("made", "cores"), 1.5, "made: cores=1.5"),
    (("made",), None, "made: None is no table of keys"),
    (("cells",), {}, "cells={}; allowed: a list"),
  ],
)
def test_a_faulty_file_is_refused_with_the_key(tmp_path, path, value, said):
  record = json.loads(results.dumps(SAMPLE))
  inner = record
  for key in path[:-1]:
    inner = inner[key]
  inner[path[-1]] = value
  file = tmp_path / "r.json"
  file.write_text(json.dumps(record))
  with pytest.raises(errors.RunError, match=r"r\.json") as error:
    results.read(file)
  assert said in str(error.value)


def test_a_file_that_is_no_json_is_named(tmp_path):
  (tmp_path / "r.json").write_text("{")
  with pytest.raises(errors.RunError, match="is not valid JSON"):
    results.read(tmp_path / "r.json")
  (tmp_path / "r.json").write_text("[]")
  with pytest.raises(errors.RunError, match="is no table of keys"):
    results.read(tmp_path / "r.json")


def test_other_statements_and_another_protocol_are_stale():
  table = papers.Table(
    "t", "norms", None,
    [papers.Cell("sélu | 32", method="selu"), papers.Cell("n", "c", part="m")],
    [papers.above("sélu | 32", ("n", "c"), claim="a is above b")],
    "", "", parts=("sweep", "m"),
  )  # fmt: skip
  sample = dataclasses.replace(
    SAMPLE,
    statements=papers.digest(table),
    expected=SAMPLE.expected[:1],
    cells=[SAMPLE.cells[0], dataclasses.replace(SAMPLE.cells[1], part="m")],
  )
  assert sample.stale(table) == ""
  other = dataclasses.replace(sample, statements="0123456789ab")
  assert "other statements" in other.stale(table)
  old = dataclasses.replace(sample, protocol=kept.PROTOCOL - 1)
  assert "under protocol 0" in old.stale(table)
  # A page has cells in the table's order, and statements in theirs.
  less = dataclasses.replace(sample, expected=[])
  assert "other statements" in less.stale(table)
  for cells in (
    [*table.cells, papers.Cell("more")],
    table.cells[::-1],
    [dataclasses.replace(table.cells[0], metric="eval/loss"), table.cells[1]],
  ):
    changed = dataclasses.replace(table, cells=cells)
    if papers.digest(changed) == sample.statements:
      assert sample.stale(changed) == "made with other cells"
    else:
      assert "other statements" in sample.stale(changed)


@pytest.mark.parametrize(
  ("verdicts", "verdict", "summary"),
  [
    (["confirmed"] * 2, "confirmed", "confirmed 2 of 2"),
    (["confirmed", "contradicted", "undecided"], "contradicted",
     "contradicted 1 of 3"),
    (["confirmed", "undecided"], "undecided",
     "undecided 1 of 2, confirmed 1"),
    ([], "undecided", "undecided, nothing was stated"),
  ],
)  # fmt: skip
def test_a_table_is_as_good_as_its_worst_statement(verdicts, verdict, summary):
  assert kept.verdict_of(verdicts) == verdict
  assert kept.summary(verdict, verdicts) == summary


def test_results_are_looked_for_beside_first(write_targets, tmp_path):
  write_targets()
  assert results.find("norms", "depth", "proxy") is None
  file = tmp_path / "experiments" / "norms" / "results" / "depth_proxy.json"
  results.write(file, SAMPLE)
  assert results.path("norms", "depth", "proxy") == file
  assert (
    results.find("norms", "depth", "proxy").summary == "contradicted 1 of 2"
  )
  file.rename(file.with_name("width_proxy.json"))
  with pytest.raises(errors.RunError, match="name='depth'; where it lies"):
    results.find("norms", "width", "proxy")
