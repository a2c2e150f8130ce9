"""Points of one program that train side by side, as a sweep launches them."""

import errno
import json
import os

import pytest
from in_process import InProcess
from test_launcher import Stage, points  # noqa: F401

from normjax import errors, stopping
from normjax.record import choices
from normjax.record.directory import RunDirectory, RunState
from normjax.report import arithmetic, load
from normjax.sweep import Sweep, api, population, worker
from normjax.sweep.executor import (
  Began,
  Cause,
  Died,
  Failed,
  Finished,
  Lane,
  Ready,
)
from normjax.train import cost
from normjax.train.population import choice


@pytest.mark.parametrize("value", [1, 0, -2, "on", "4", True, None, 2.0])
def test_what_is_no_population_is_refused(value):
  with pytest.raises(errors.UserError, match="Sweep.population must be 'auto'"):
    Sweep(methods=[{}], population=value)


def test_a_flag_is_a_word_or_a_number():
  assert [population.parse(text) for text in ("auto", "16")] == ["auto", 16]
  assert [population.most(each) for each in ("off", "auto", 4)] == [1, 16, 4]


# ----- What a launcher does -----


@pytest.mark.parametrize("how", ["memory", "death"])
def test_lists_are_halved_and_no_attempt_counts(points, tmp_path, how):  # noqa: F811
  names = ["a1", "a2", "a3", "a4"]

  def trouble(*given):
    failure = Failed(0, given[0], "why.", Cause.MEMORY)
    return [
      *(Began(0, name) for name in given),
      Died(0, "why.") if how == "death" else failure,
    ]

  stage = Stage(
    tmp_path,
    [Ready(0)],
    trouble(*names),
    [Ready(0)],
    # What was given back waits behind the others.
    trouble("a1", "a2"),
    [Ready(0)],
    [Began(0, "a3"), Finished(0, "a3", 1.0)],
    max_lanes=8,
    retries=0,
  )
  told, attempts = stage.run(points(" ".join(names)))
  assert [each for each in told if each.startswith("submit")] == [
    "submit 0: a1 a2 a3 a4",
    "submit 0: a1 a2",
    "submit 0: a3",
  ]
  assert not [each for each in told if each.startswith("failed")]
  assert attempts == [*(f"{n} failed" for n in [*names, *names[:2]]), "a3 done"]
  assert (
    "note: why. A slot had 4 points; from here on it has 2 of this program at"
    " once." in told
  )


def test_points_are_shared_among_slots(points, tmp_path):  # noqa: F811
  stage = Stage(tmp_path, [Ready(0)], [Ready(1)], [], num_slots=2, max_lanes=16)
  told, _ = stage.run(points("a1 a2 a3 a4 a5"))
  assert [each for each in told if each.startswith("submit")] == [
    "submit 0: a1 a2 a3",
    "submit 1: a4 a5",
  ]


# ----- What a worker does -----


class Runner:
  """Trains nothing; some configs it cannot."""

  def __init__(self, asked=None, wants=9):
    self.asked, self.wants = [] if asked is None else asked, wants

  def __call__(self, config, directory):
    self.together([(config, directory)], 1)
    return {"state": "done"}

  def members(self, runs, most):
    if not self.wants:
      raise RuntimeError("cannot compile")
    return min(self.wants, most)

  def together(self, runs, most):
    self.asked.append([config["name"] for config, _ in runs])
    for config, _ in runs:
      if config["name"] in ("bad", "large"):
        memory = "RESOURCE_EXHAUSTED" if config["name"] == "large" else "why"
        raise RuntimeError(memory)
    for config, directory in runs:
      directory.mkdir()
      run = RunDirectory(directory, config["name"])
      run.write_result(RunState.DONE, steps=4, metrics={}, compile_s=1.0)


def _told(runner, tmp_path, *names, most=4):
  lanes = [Lane(n, {"name": n}, tmp_path / n, most) for n in names]
  said = list(worker.run_list(0, runner, lanes))
  return [(type(each).__name__, each.run_id) for each in said], said


def test_all_begin_and_all_end(tmp_path):
  told, said = _told(runner := Runner(), tmp_path, "a", "b")
  assert told == [
    ("Began", "a"), ("Began", "b"), ("Finished", "a"), ("Finished", "b"),
  ]  # fmt: skip
  assert runner.asked == [["a", "b"]]
  assert said[2].wall_s == said[3].wall_s


def test_a_lane_that_cannot_does_not_stop_the_others(tmp_path):
  runner = Runner()
  told, _ = _told(runner, tmp_path, "a", "b", "bad", "c")
  assert {name for kind, name in told if kind == "Failed"} == {"bad"}
  assert {name for kind, name in told if kind == "Finished"} == {"a", "b", "c"}
  assert runner.asked == [
    ["a", "b", "bad", "c"], ["a", "b"], ["bad", "c"], ["bad"], ["c"],
  ]  # fmt: skip


def test_out_of_memory_is_for_the_launcher(tmp_path):
  runner = Runner()
  _, said = _told(runner, tmp_path, "a", "large")
  assert runner.asked == [["a", "large"]]
  assert [each.cause for each in said[2:]] == [Cause.MEMORY] * 2


def test_after_a_signal_no_other_half_begins(tmp_path, monkeypatch):
  class Stopped(Runner):
    def together(self, runs, most):
      if self.asked:  # In the first half of what failed.
        monkeypatch.setattr(stopping, "asked", lambda: True)
        raise KeyboardInterrupt
      super().together(runs, most)

  told, _ = _told(runner := Stopped(), tmp_path, "a", "bad", "b")
  assert runner.asked == [["a", "bad", "b"]]
  assert told[3:] == [("Interrupted", name) for name in ("a", "bad", "b")]


def test_a_signal_while_it_is_chosen_interrupts_all(tmp_path):
  class Stopped(Runner):
    def members(self, runs, most):
      raise KeyboardInterrupt

  told, _ = _told(Stopped(), tmp_path, "a", "b")
  assert told == [("Interrupted", "a"), ("Interrupted", "b")]


@pytest.mark.parametrize(("most", "wants"), [(1, 9), (4, 1), (4, 0)])
def test_one_after_the_other_where_that_is_better(tmp_path, most, wants):
  told, _ = _told(Runner(wants=wants), tmp_path, "a", "b", most=most)
  assert told == [
    ("Began", "a"), ("Finished", "a"), ("Began", "b"), ("Finished", "b"),
  ]  # fmt: skip


# ----- From a sweep to its report -----

CONFIG = """
from normjax.sweep import Sweep
from tests import support

def get_config():
  return support.tiny_mlp({"train.num_steps": 2, "evaluate.every_steps": 2})

def sweep():
  return Sweep(
    methods=[{"norm.name": name} for name in ("batch_norm", "identity")],
    seeds=(0, 1, 2), population="auto")
"""


@pytest.fixture
def run_sweep(tmp_path, monkeypatch):
  """Runs the sweep in this process; a population is faster as told."""
  path = tmp_path / "small.py"
  path.write_text(CONFIG)
  monkeypatch.setattr(cost, "step_s", lambda *_: 1.0)

  def run(out, together_s=None, **options):
    monkeypatch.setattr(choice, "_step_s", lambda *_: together_s)
    return api.run_sweep(path, out, workers=1, executor=InProcess, **options)

  return run


def _sizes(out):
  found = {}
  for path in out.glob("runs/*/run.json"):
    record = json.loads(path.read_text())
    size = record["provenance"]["population"]["size"]
    found.setdefault(record["config"]["norm"]["name"], []).append(size)
  return found


def test_a_sweep_chooses_once_and_says_what_differs(run_sweep, tmp_path):
  out = tmp_path / "out"
  summary = run_sweep(out, 2.9, methods="batch_norm")
  assert summary.num_done == 3
  assert _sizes(out) == {"batch_norm": [3, 3, 3]}
  (path,) = (out / choices.POPULATION).iterdir()
  told = json.loads(path.read_text())
  assert told.pop("device")
  assert told == {
    "together": True, "members": 3, "alone_s": 3.0, "together_s": 2.9,
  }  # fmt: skip
  summary = run_sweep(out, 3.1)
  assert (summary.num_done, summary.num_ran) == (6, 3)
  assert _sizes(out) == {"batch_norm": [3, 3, 3], "identity": [1, 1, 1]}
  (said,) = arithmetic.differences(load.load(out))
  assert "trained: in populations (batch_norm); alone (identity)" in said


def test_a_choice_needs_no_hard_links(tmp_path, monkeypatch):
  """Without it each list of points would be timed, and then trained alone."""

  def link(*names):
    raise OSError(errno.EPERM, "Operation not permitted")

  monkeypatch.setattr(os, "link", link)
  test_the_first_choice_stays(tmp_path)


def test_the_first_choice_stays(tmp_path):
  for together in (True, False):
    choices.write(tmp_path, "program", {"together": together})
  assert choices.read(tmp_path, "program") == {"together": True}
  path = tmp_path / choices.POPULATION / "program.json"
  path.write_text('{"together": tr')
  assert choices.read(tmp_path, "program") is None
  choices.write(tmp_path, "program", {"together": False})
  assert choices.read(tmp_path, "program") == {"together": False}
  assert [each.name for each in path.parent.iterdir()] == ["program.json"]
