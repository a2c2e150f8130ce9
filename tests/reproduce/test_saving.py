"""Results that are kept, and the list of tables that reads them."""

import json
import subprocess
import sys

import pytest

from normjax import errors, reproduce
from normjax.papers import results
from normjax.reproduce import listing


def _file(project):
  return project.folder / "experiments/toys/results/toy_proxy.json"


def _status(project):
  found, problems = listing.entries()
  assert problems == []
  return {e.scale: e.status for e in found if e.source.name == "toy"}


def test_results_are_kept_beside_the_papers_numbers(project):
  assert _status(project) == {"proxy": "not run", "paper": "not run"}
  project.run(save=True)
  kept = results.read(_file(project))
  assert kept.verdict == "confirmed"
  assert kept.made.runs == 4
  assert kept.made.cpu_s > 0
  assert kept.plans.keys() == {"sweep"}
  assert _status(project)["proxy"] == "confirmed 1 of 1"
  assert _file(project).stat().st_size < 3000


def test_results_under_other_statements_are_stale(project):
  project.run(save=True)
  project.write(expected='papers.below("a", "b", by=0.1)')
  assert _status(project)["proxy"] == "stale: made under other statements"


def test_a_config_that_was_changed_since_is_told(project):
  """The verdict on the old runs stays to be read."""
  project.run(save=True)
  project.write(replacing=('"width": 1', '"width": 2'))
  changed = "confirmed 1 of 1, config changed since"
  assert _status(project)["proxy"] == changed
  project.write(replacing=('"seed": 0', '"seed": 0 / 0'))
  text, problems = listing.told()
  assert changed in text
  assert "ZeroDivisionError" in problems[0]


def test_where_files_lie_is_no_change_of_a_config(project):
  place = ('"toy": {', '"data": {"data_dir": ""}, "toy": {')
  project.write(replacing=place)
  project.run(save=True, overrides={"data.data_dir": "/elsewhere"})
  assert _status(project)["proxy"] == "confirmed 1 of 1"


def test_results_of_another_protocol_are_stale(project):
  project.run(save=True)
  kept = json.loads(_file(project).read_text()) | {"protocol": 0}
  _file(project).write_text(json.dumps(kept))
  assert _status(project)["proxy"].startswith("stale: made under protocol 0")


def test_results_that_cannot_be_read_are_told_after_the_list(project):
  project.run(save=True)
  _file(project).write_text("{}")
  text, problems = listing.told()
  assert "results cannot be read" in text
  assert "toy_proxy.json" in problems[0]


def test_part_of_a_table_is_not_kept(project):
  with pytest.raises(errors.RunError, match=r"not saved.*missing \(a 1 of 2"):
    project.run(save=True, seeds=[1])
  assert not _file(project).exists()
  project.run(save=True, seeds=[2])  # Now all is there.
  assert _file(project).exists()


def test_of_a_table_with_failures_nothing_is_kept(project):
  project.write(trouble="raise")
  assert project.run(save=True).exit_code == 1
  assert "not saved: final runs are missing" in project.said()
  assert not _file(project).exists()


def test_an_overridden_table_is_refused_before_it_runs(project):
  with pytest.raises(errors.UserError, match="--save: overridden: toy"):
    project.run(save=True, overrides={"toy.width": 3})
  assert not (project.folder / "runs").exists()


def test_what_runs_took_is_not_told_where_a_call_was_killed(project):
  """Also where the next one went on with the run that it left."""
  project.write(trouble="raise:1")
  file = project.run().out / "spent.json"
  now = json.loads(file.read_text())
  assert (now["begun"], now["ended"], now["runs"]) == (1, 1, 0)
  assert now["cpu_s"] > 0  # Of a call that could end.
  file.write_text(json.dumps(now | {"begun": 2}))  # Not so of another one.
  assert project.run(save=True).exit_code == 0
  assert results.read(_file(project)).made.cpu_s is None


def test_every_version_and_device_that_runs_were_made_with_is_told(project):
  outcome = project.run()
  for index, run in enumerate(sorted(outcome.out.glob("sweep/runs/*"))):
    record = {
      "schema": 1,
      "run_id": run.name,
      "config": {},
      "provenance": {
        "normjax": "1.0",
        "packages": {"jax": f"0.{index % 2}", "scipy": "1"},
        "devices": ["cpu", f"gpu {index % 2}"],
      },
    }
    (run / "run.json").write_text(json.dumps(record))
  project.run(save=True)
  made = results.read(_file(project)).made
  assert sorted(made.versions["jax"].split(", ")) == ["0.0", "0.1"]
  assert made.versions["normjax"] == "1.0"
  assert made.versions["numpy"]  # No run says it: today's.
  assert sorted(made.device.split(", ")) == ["cpu", "gpu 0", "gpu 1"]


def test_what_runs_took_is_not_told_where_its_file_was_lost(project):
  outcome = project.run()
  (outcome.out / "spent.json").unlink()
  project.run(save=True)
  assert results.read(_file(project)).made.cpu_s is None


@pytest.mark.parametrize(
  "text", ["{", "[1]", '{"more": 1}', '{"runs": "4", "cpu_s": 1, "wall_s": 1}']
)
def test_a_damaged_count_costs_no_table(project, text):
  (project.folder / "out").mkdir()
  (project.folder / "out" / "spent.json").write_text(text)
  outcome = project.run(out="out")
  assert outcome.judged.verdict == "confirmed"
  (outcome.out / "spent.json").write_text(text)
  project.run(out="out", save=True)
  assert results.read(_file(project)).made.cpu_s is None


def test_a_table_says_how_it_was_made(project):
  page = project.run(overrides={"toy.width": 3}).out / "table.html"
  command = "normjax reproduce toy --scale=proxy --config.toy.width=3"
  assert f"<li>Command: {command}</li>" in page.read_text()
  said = json.loads(page.with_suffix(".json").read_text())["made"]
  assert said["command"] == command
  assert said["versions"]["numpy"] in page.read_text()
  assert said["date"] in page.with_suffix(".md").read_text()
  assert '<a href="https://arxiv.org/abs/2601.00001">' in page.read_text()


def test_the_list_names_broken_files_and_shows_the_rest(project):
  (project.folder / "configs" / "papers" / "broken.py").write_text("1 / 0")
  text, problems = listing.told()
  assert "toy " in text
  assert "2601.00001" in text
  assert len(problems) == 1
  assert "broken.py does not import: ZeroDivisionError" in problems[0]


def test_the_list_imports_no_jax(project):
  project.run(save=True)  # Results are compared with their configs.
  code = (
    "import sys; from normjax.reproduce import listing;"
    "text, problems = listing.told();"
    "assert 'confirmed 1 of 1' in text, text;"
    "sys.exit(len({'jax', 'scipy', 'matplotlib'} & {*sys.modules}))"
  )
  path = f"{reproduce.__path__[0]}/../.."
  done = subprocess.run(
    [sys.executable, "-c", code],
    env={"PYTHONPATH": path},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
