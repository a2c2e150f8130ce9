"""Runs are never judged by what was not expected of them beforehand."""

import json

import pytest

from normjax import errors


def test_it_says_when_it_was_written_and_is_not_written_again(project):
  path = project.run().out / "expected.json"
  before = path.read_text()
  assert json.loads(before)["written"]["time"]
  project.run()
  assert path.read_text() == before


def test_other_statements_are_refused_and_both_are_named(project):
  project.run()
  project.write(expected='papers.below("a", "b", by=0.1)')
  with pytest.raises(errors.RunError) as caught:
    project.run()
  said = str(caught.value)
  assert "'a is below b by 0.5' (1 b, -1 a; at_least=0.5)" in said
  assert "now 'a is below b by 0.1' (1 b, -1 a; at_least=0.1)" in said
  assert "Give another --out" in said or "give another --out" in said
  assert project.run(out="elsewhere").exit_code == 0


def test_a_statement_that_is_gone_is_named(project):
  project.run()
  project.write(expected="")
  with pytest.raises(errors.RunError, match="now none in its place"):
    project.run()


def test_the_same_statement_about_other_cells_is_another(project):
  project.run()
  project.write(
    cells='papers.Cell("a", method="bb"), papers.Cell("b", method="a")'
  )
  with pytest.raises(errors.RunError, match="other statements"):
    project.run()


def test_statements_may_change_while_there_is_no_run(project):
  outcome = project.run()
  for each in (outcome.out / "sweep" / "runs").iterdir():
    each.rename(project.folder / each.name)
  project.write(expected='papers.below("a", "b", by=0.1)')
  assert project.run().judged.statements[0].expected.at_least == 0.1


@pytest.mark.parametrize(
  ("key", "value", "said"),
  [
    ("scale", "paper", "has runs at scale paper; this is proxy"),
    ("name", "other", "has runs of table other; this is toy"),
    ("protocol", 0, "has runs made under protocol 0; this is 1"),
  ],
)
def test_another_tables_folder_is_refused(project, key, value, said):
  path = project.run().out / "expected.json"
  path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
  with pytest.raises(errors.RunError, match=said):
    project.run()


def test_runs_of_which_nothing_was_expected_are_refused(project):
  (project.run().out / "expected.json").unlink()
  with pytest.raises(errors.RunError, match="was not written down before"):
    project.run()


def test_what_was_computed_counts_as_a_run(project):
  computed = {
    "cells": 'papers.Cell("exact", part="measure")',
    "parts": '"measure",',
  }
  project.write(**computed, expected='papers.exactly("exact", 3)')
  assert project.run().judged.verdict == "contradicted"
  project.write(**computed, expected='papers.exactly("exact", 2)')
  with pytest.raises(errors.RunError, match="other statements"):
    project.run()


@pytest.mark.parametrize(
  "expected",
  [3, [{"claim": 1, "terms": 3}], [{"terms": [["a", "b"]]}], [{"terms": [1]}]],
)
def test_statements_that_a_hand_has_changed_are_refused(project, expected):
  path = project.run().out / "expected.json"
  other = {"digest": "", "expected": expected}
  path.write_text(json.dumps(json.loads(path.read_text()) | other))
  with pytest.raises(errors.RunError, match="made under other statements"):
    project.run()


def test_of_two_calls_at_once_one_writes_what_is_expected(project):
  """Else the statements of one would stand beside the runs of the other."""
  from normjax.record import lock

  out = project.folder / "out"
  out.mkdir()
  with (
    lock.held(out, by="table"),
    pytest.raises(errors.BusyRunError, match="in use by another table"),
  ):
    project.run(out=out)
  assert not (out / "expected.json").exists()


def test_what_was_run_since_the_plan_was_made_counts(project, monkeypatch):
  from normjax.reproduce import planned

  check = planned.Planned.check

  def other_call(plan, part, **options):
    monkeypatch.setattr(planned.Planned, "check", check)
    project.write(expected='papers.below("a", "b", by=0.1)')
    project.run()
    check(plan, part, **options)

  monkeypatch.setattr(planned.Planned, "check", other_call)
  with pytest.raises(errors.RunError, match="other statements"):
    project.run()
