import importlib

import pytest

from normjax import errors
from normjax.record import sinks

ROW = {"step": 3, "kind": "train", "loss": 1.5, "note": "text"}


def test_tensorboard_gets_the_numbers(tmp_path):
  sink = sinks.TensorBoard(tmp_path, {"seed": 0})
  sink.write(ROW)
  sink.close()
  (events,) = (tmp_path / "tensorboard").glob("events*")
  content = events.read_bytes()
  assert b"train/loss" in content
  assert b"note" not in content


def test_wandb_is_asked_for_by_name_when_missing(tmp_path, monkeypatch):
  def missing(name):
    raise ImportError(name)

  monkeypatch.setattr(importlib, "import_module", missing)
  with pytest.raises(errors.UserError, match="log.wandb=True needs the pack"):
    sinks.WeightsAndBiases(tmp_path, {})


def test_wandb_resumes_the_run_of_the_same_id(tmp_path, monkeypatch):
  calls = []

  class Fake:
    def init(self, **options):
      calls.append(("init", options))

    def log(self, values):
      calls.append(("log", values))

    def finish(self):
      calls.append(("finish", None))

  monkeypatch.setattr(importlib, "import_module", lambda name: Fake())
  sink = sinks.WeightsAndBiases(tmp_path / "abc123", {"seed": 0})
  sink.write(ROW)
  sink.close()
  (_, options), logged, finished = calls
  assert options["id"] == "abc123"
  assert options["resume"] == "allow"
  assert logged == ("log", {"train/loss": 1.5, "step": 3})
  assert finished == ("finish", None)
