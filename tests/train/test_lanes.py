"""Runs of one program side by side give what each gives alone."""

import ast
import inspect
import json
import os

import pytest

from normjax import errors, stopping
from normjax.record import clock, files, recorder
from normjax.train import checkpoint, entry, lane, loop
from tests import support

BASE = {
  "train.num_steps": 6,
  "evaluate.every_steps": 3,
  "checkpoint.every_steps": 4,
}
UNSAVED = {"checkpoint.every_steps": 0}
LANES = {
  "first": {},
  "other seed and rate": {"seed": 3, "optimizer.learning_rate": 0.01},
  # Loops may differ too: what is due in one lane changes nothing in another.
  "shorter": {"train.num_steps": 5, "log.every_steps": 2, **UNSAVED},
  "diverges": {
    "optimizer.learning_rate": 1e30,
    "train.gradient_clip": 0.0,
    **UNSAVED,
  },
}


def _runs(directory, observe=None):
  return [
    entry.Run(
      support.tiny(BASE, change),
      directory / name,
      *([observe[name]] if observe and name in observe else []),
    )
    for name, change in LANES.items()
  ]


# Of the clock, or of the process.
_OF_THE_MACHINE = ("step_ms_median", "data_wait_share", "peak_rss_bytes")


def _content(directory):
  """All that a run leaves, without what depends on the machine."""
  (directory / ".lock").unlink(missing_ok=True)
  found = {kind: support.rows(directory, kind) for kind in ("train", "eval")}
  for name in (files.RUN, files.STATUS, files.RESULT):
    value = json.loads((directory / name).read_text())
    value.get("provenance", {}).pop("created", None)
    found[name] = {
      k: v
      for k, v in value.items()
      if not k.endswith("_s") and k not in _OF_THE_MACHINE
    }
  found["paths"] = sorted(
    str(path.relative_to(directory)) for path in directory.glob("*/*")
  )
  for path in (directory / files.CHECKPOINTS).glob("*/seal/metadata"):
    found[str(path.relative_to(directory))] = json.loads(path.read_text())[
      "leaves"
    ]
  return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
  """Each run's results and files, trained one after the other."""
  directory = tmp_path_factory.mktemp("alone")
  for run in _runs(directory):
    entry.run_together([run])
  return directory


def _assert_same(alone, together):
  for name in LANES:
    assert _content(together / name) == _content(alone / name), name


def test_side_by_side_is_bit_for_bit_alone(alone, tmp_path):
  events = []
  watch = {
    name: lambda *event, name=name: events.append((name, *event))
    for name in LANES
  }
  results = entry.run_together(_runs(tmp_path, watch))
  _assert_same(alone, tmp_path)
  states = [result["state"] for result in results]
  assert states == ["done", "done", "done", "diverged"]
  assert [e[0] for e in events if e[1:] == ("step", 1)] == list(LANES)


def test_a_signal_saves_every_lane_and_all_go_on(alone, tmp_path):
  watch = {
    "other seed and rate": lambda *event: (
      event == ("step", 2) and os.kill(os.getpid(), 15)
    )
  }
  with stopping.interruptible(), pytest.raises(KeyboardInterrupt):
    entry.run_together(_runs(tmp_path, watch))
  for name in LANES:
    state = files.read_json(tmp_path / name / files.STATUS)["state"]
    # One was over before.
    assert state == ("diverged" if name == "diverges" else "interrupted")
    checkpoint = tmp_path / name / files.CHECKPOINTS / "3"
    assert checkpoint.is_dir() == (not UNSAVED.items() <= LANES[name].items())
  entry.run_together(_runs(tmp_path))
  for name in LANES:
    for kind in ("train", "eval"):
      want = support.rows(alone / name, kind)
      assert support.rows(tmp_path / name, kind) == want


def test_an_error_ends_all_and_what_is_over_stays(tmp_path):
  def fail(*event):
    if event == ("step", 3):
      raise RuntimeError("why")

  with pytest.raises(RuntimeError, match="why"):
    entry.run_together(_runs(tmp_path, {"shorter": fail}))
  status = {
    name: files.read_json(tmp_path / name / files.STATUS) for name in LANES
  }
  assert status.pop("diverges")["state"] == "diverged"
  for each in status.values():
    assert (each["state"], each["message"]) == ("failed", "RuntimeError: why")


def test_runs_of_several_programs_are_refused(tmp_path):
  runs = [
    entry.Run(support.tiny(change), tmp_path / str(index))
    for index, change in enumerate(({}, {"model.model_dim": 32}))
  ]
  with pytest.raises(
    errors.UserError, match="are of one program; 2 runs are of 2"
  ):
    entry.run_together(runs)
  assert list(tmp_path.iterdir()) == []


def test_one_directory_is_not_for_two_runs(tmp_path):
  (tmp_path / "link").symlink_to(tmp_path / "a")
  runs = [
    entry.Run(support.tiny({"seed": seed}), tmp_path / name)
    for seed, name in enumerate(("a", "link"))
  ]
  with pytest.raises(errors.UserError, match="two runs .* have the directory"):
    entry.run_together(runs)
  assert not (tmp_path / "a").exists()


def _assigned(function):
  """Attributes of `self` that a method assigns."""
  return {
    node.attr
    for node in ast.walk(function)
    if isinstance(node, ast.Attribute)
    and isinstance(node.ctx, ast.Store)
    and ast.unparse(node.value) == "self"
  }


@pytest.mark.parametrize(
  "module", [checkpoint, clock, entry, files, lane, loop, recorder]
)
def test_no_attribute_is_born_outside_init(module):
  tree = ast.parse(inspect.getsource(module))
  for node in ast.walk(tree):
    if isinstance(node, ast.ClassDef):
      methods = {
        each.name: _assigned(each)
        for each in node.body
        if isinstance(each, ast.FunctionDef)
      }
      born = methods.pop("__init__", set())
      assert set().union(*methods.values()) <= born, node.name
