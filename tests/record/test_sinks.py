import importlib

import pytest

from normjax import configure, errors
from normjax.record import sinks
from normjax.train import check

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


class Fake:
  """W&B: the module and its run; notes what it is told."""

  def __init__(self):
    self.calls = []

  def init(self, **options):
    self.calls.append(("init", options))
    return self

  def define_metric(self, name, **options):
    self.calls.append(("define", name, options))

  def log(self, values):
    self.calls.append(("log", values))

  def finish(self):
    self.calls.append(("finish",))


def test_wandb_resumes_the_run_of_the_same_id(tmp_path, monkeypatch):
  fake = Fake()
  monkeypatch.setattr(importlib, "import_module", lambda name: fake)
  sink = sinks.WeightsAndBiases(tmp_path / "abc123", {"seed": 0})
  sink.write(ROW)
  sink.close()
  (_, options), *defined, logged, finished = fake.calls
  assert (options["id"], options["name"]) == ("abc123", "abc123")
  assert (options["project"], options["group"]) == ("normjax", None)
  assert options["resume"] == "allow"
  assert options["reinit"] == "create_new"
  assert defined == [
    ("define", "step", {}),
    ("define", "*", {"step_metric": "step"}),
  ]
  assert logged == ("log", {"train/loss": 1.5, "step": 3})
  assert finished == ("finish",)


def test_wandb_is_called_as_the_config_says(tmp_path, monkeypatch):
  fake = Fake()
  monkeypatch.setattr(importlib, "import_module", lambda name: fake)
  config = configure.override(
    configure.load("configs/default.py"),
    {
      "log.wandb": True,
      "log.wandb_project": "norms",
      "log.wandb_group": "first",
      "log.wandb_name": "{norm.name} seed {seed}",
      "norm.name": "dyt",
    },
  )
  (sink,) = sinks.open_asked(tmp_path, configure.to_dict(config))
  sink.close()
  options = fake.calls[0][1]
  assert [options[key] for key in ("project", "group", "name")] == [
    "norms",
    "first",
    "dyt seed 0",
  ]


def test_keys_of_the_mirror_are_in_no_run_id_unless_set():
  config = configure.load("configs/default.py")
  old = configure.load("configs/default.py")
  with old.unlocked():
    for key in ("wandb_project", "wandb_group", "wandb_name"):
      del old.log[key]
  assert configure.run_id(config) == configure.run_id(old)
  named = configure.override(old, {"log.wandb_project": "norms"})
  assert "log.wandb_project" in dict(configure.leaves(named))


def test_a_name_of_no_key_is_refused_before_the_start():
  config = configure.override(
    configure.load("configs/default.py"), {"log.wandb_name": "{norm.nam}"}
  )
  with pytest.raises(errors.ConfigError, match=r"log.wandb_name.*norm\.name"):
    check.check(config)


@pytest.mark.parametrize("at", ["init", "log", "finish"])
def test_a_mirror_never_stops_a_run(tmp_path, monkeypatch, caplog, at):
  fake = Fake()

  def fail(*args, **options):
    raise ConnectionError("no network")

  setattr(fake, at, fail)
  monkeypatch.setattr(importlib, "import_module", lambda name: fake)
  config = {"log": {"wandb": True, "tensorboard": False}}
  (sink,) = sinks.open_asked(tmp_path, config)
  sink.write(ROW)
  sink.write(ROW)
  sink.close()
  (said,) = caplog.messages
  assert "log.wandb: ConnectionError: no network; the run goes on" in said
