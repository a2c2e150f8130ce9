"""Part of a sweep first, the rest later."""

import json

import pytest
from toy_runner import results

from normjax import errors
from normjax.report import facts, load
from normjax.sweep import select

LABELS = ["dyt + adamw", "dyt + muon", "rms_norm + adamw"]
# "bb" is best at 0.1, an inner value; "a" on the lower edge of its grid.
TUNED = """Sweep(
  methods=[{"toy.name": "a", "toy.optimum": 0.02}, {"toy.name": "bb"}],
  labels=["a", "bb"], seeds=(0, 1),
  tune=Tune({"optimizer.learning_rate": (0.03, 0.1, 0.3)}))"""


@pytest.mark.parametrize(
  ("methods", "count"),
  [(None, 3), ("dyt", 2), ("^rms|muon", 2), ("dyt + adamw", 1), (".", 3)],
)
def test_methods_are_found_by_a_pattern_or_as_written(methods, count):
  chosen = select.select(LABELS, (1, 2), methods, None)
  assert len(chosen.labels) == count
  assert chosen.whole == (count == 3)


@pytest.mark.parametrize(
  ("methods", "seeds", "said"),
  [
    ("rmsnorm", None, "'rmsnorm' matches no method. Did you mean 'rms_norm'"),
    ("", None, "matches no method"),
    ("(", None, r"'\(' is not a regular expression: missing \)"),
    (None, [1, 3], "the sweep has no seed 3; its seeds: 1, 2"),
    (None, [], "names no seed"),
  ],
)
def test_what_chooses_nothing_is_said(methods, seeds, said):
  with pytest.raises(errors.UserError, match=said):
    select.select(LABELS, (1, 2), methods, seeds)


def _plan(out):
  plan = json.loads((out / "plan.json").read_text())
  over = results(out).keys()
  counts = {}
  for point in plan["points"]:
    key = point["method"], point["stage"]
    done, count = counts.get(key, (0, 0))
    counts[key] = done + (point["run_id"] in over), count + 1
  return plan, counts


def test_the_plan_is_the_whole_sweeps_and_the_rest_goes_on(
  write_config, run_toy, tmp_path
):
  config, out = write_config(TUNED), tmp_path / "out"
  first = run_toy(config, out, methods="bb", seeds=[1])
  plan, counts = _plan(out)
  # Tuned alone; the trials and one final run of the chosen method.
  assert counts == {
    ("a", "tune"): (0, 6), ("bb", "tune"): (5, 8), ("bb", "final"): (1, 1),
  }  # fmt: skip
  assert plan["num_points"] == 2 * 2 * 5 + 4
  assert first.chosen == (6, 6)
  assert first.exit_code == 0
  assert "without --methods and --seeds the same command" in first.text()

  assert facts.progress(load.load(out)) == (
    "5 of 14 tuning runs are over, 1 of 1 final runs are over, no final runs"
    " yet: a"
  )

  # What an earlier part has run stays in the plan, and so in the report.
  run_toy(config, out, methods="a")
  _, counts = _plan(out)
  assert counts["bb", "final"] == (1, 1)
  assert counts["a", "final"] == (2, 2)
  assert counts["a", "tune"][1] > 2 * 5  # Its grids grew.

  whole, reference = run_toy(config, out), run_toy(config, tmp_path / "at_once")
  assert whole.chosen is None
  plan, counts = _plan(out)
  assert plan["points"] == _plan(tmp_path / "at_once")[0]["points"]
  assert counts["bb", "tune"] == counts["a", "tune"]
  assert whole.num_done == reference.num_done


def test_a_part_is_warned_of_what_the_others_may_change(
  write_config, run_toy, tmp_path
):
  import io

  import rich.console

  console = rich.console.Console(file=io.StringIO(), width=300)
  config, out = write_config(TUNED), tmp_path / "out"
  run_toy(config, out, methods="bb", console=console)
  said = console.file.getvalue()
  assert "tuned as if there were no others" in said
  assert "[1/12] bb learning_rate=0.03 seed 1000 (tune for seed 0)" in said
  assert ", ETA " in said
  assert "[12/12]" in said


def test_some_seeds_of_all_methods_are_tuned_together(
  write_config, run_toy, tmp_path
):
  config, out = write_config(TUNED), tmp_path / "out"
  part = run_toy(config, out, seeds=[0])
  plan, counts = _plan(out)
  assert counts["a", "tune"] == counts["bb", "tune"]
  assert counts["a", "final"] == counts["bb", "final"] == (1, 1)
  # Only the tuning of this seed is run.
  tried = {
    p["for_seed"]
    for p in plan["points"]
    if p["stage"] == "tune" and p["run_id"] in results(out)
  }
  assert tried == {0}
  assert part.chosen[0] == part.chosen[1]
  assert part.chosen[1] == plan["num_points"] - 2 * (5 + 1)
  assert part.exit_code == 0
