"""The seam between a sweep and where its runs happen.

A second executor, `in_process`, runs whole sweeps with no other change, here
and wherever `run_toy` is not told otherwise.
"""

import json

import pytest
from toy_runner import results

from normjax import errors
from normjax.sweep import executor

TROUBLED = """Sweep(
  methods=[
    {"toy.name": "a"},
    {"toy.name": "bb", "toy.trouble": "raise:1"},
    {"toy.name": "ccc", "toy.trouble": "sigterm:1"},
    {"toy.name": "dddd", "toy.trouble": "bad_input"},
  ],
  seeds=(0, 1),
  tune=Tune({"optimizer.learning_rate": [0.1, 0.2]}, max_extensions=0,
            repeat="shared", second_pass=False))"""


def attempts(out):
  """The ends of each run's attempts, in order, by method."""
  plan = json.loads((out / "plan.json").read_text())
  rows = map(json.loads, (out / "attempts.jsonl").read_text().splitlines())
  ends = {point["run_id"]: [] for point in plan["points"]}
  for row in rows:
    ends[row["run_id"]].append(row["state"])
  methods = {}
  for point in plan["points"]:
    name = point["overrides"]["toy.name"]
    methods.setdefault(name, []).append(ends[point["run_id"]])
  return methods


@pytest.mark.parametrize(
  # `test_slurm` has jobs that are sent back, and their pool.
  "place",
  ["local", pytest.param("slurm", marks=pytest.mark.slow)],
)
def test_a_sweep_in_this_process_ends_as_one_elsewhere(
  write_config, run_toy, tmp_path, fake_slurm, place
):
  config = write_config(TROUBLED)
  here, there = tmp_path / "here", tmp_path / "there"
  num_interrupted = 0
  while (summary := run_toy(config, here)).interrupted:
    assert summary.exit_code == 130
    num_interrupted += 1
  assert num_interrupted == 4  # Two trials and the final runs of "ccc".
  elsewhere = run_toy(config, there, executor=place)
  for each in (summary, elsewhere):
    assert (each.num_done, each.exit_code) == (3 * 4, 1)
    assert set(each.failed.values()) == {"UserError: toy.trouble is bad input"}
  assert results(here) == results(there)
  plan = (here / "plan.json").read_text()
  assert plan == (there / "plan.json").read_text()
  ends = attempts(here)
  assert ends["a"] == [["done"]] * 4
  assert ends["bb"] == [["failed", "done"]] * 4
  assert ends["ccc"] == [["interrupted", "done"]] * 4
  assert {state for run in ends["dddd"] for state in run} == {"failed"}
  # There, a signal that reaches a worker alone is a failure of its run.
  assert attempts(there) == ends | {
    "ccc": [["failed", "done"]] * 4,
    "dddd": [["failed"]] * 2,  # No trial ended: there are no final runs.
  }


def test_an_unknown_executor(write_config, run_toy, tmp_path):
  with pytest.raises(errors.UnknownNameError, match="unknown executor 'locla'"):
    run_toy(write_config("grid(seed=range(2))"), tmp_path, executor="locla")
  assert executor.resolve("local").__name__ == "LocalPool"
