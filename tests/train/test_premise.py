"""A run says once where its optimizer's premise does not hold."""

import json
import logging

import pytest

from normjax import configure, train
from normjax.sweep import preflight
from normjax.train import premise
from tests import support

# Without a norm, and with one behind each hidden matrix.
NO_NORM = {
  "model.name": "mlp",
  "model.num_layers": 2,
  "model.hidden_dim": 8,
  "data.name": "digits",
  "norm.name": "identity",
  "optimizer.name": "nap_adamw",
  "train.num_steps": 4,
}
NORM = {**NO_NORM, "norm.name": "layer_norm"}


def _config(overrides):
  shared = {
    key: value
    for key, value in support.DECODER.items()
    if not key.startswith(("model.", "data."))
  }
  config = configure.load("configs/default.py")
  return configure.override(config, {**shared, **overrides})


def test_a_run_notes_it_and_does_not_measure_again(
  tmp_path, caplog, monkeypatch
):
  config = _config(NO_NORM)

  def stop(name, step):
    if name == "step" and step == 2:
      raise KeyboardInterrupt

  with caplog.at_level(logging.WARNING), pytest.raises(KeyboardInterrupt):
    train.run(
      configure.override(config, {"checkpoint.every_steps": 1}), tmp_path, stop
    )
  (note,) = json.loads((tmp_path / "run.json").read_text())["problems"]
  assert note in caplog.text
  assert "'nap_adamw' keeps the norms of matrices that are not" in note
  assert "not scale-invariant, 2 of 2: layers/*/kernel. Doubling" in note
  assert "a norm before every nonlinearity" in note
  monkeypatch.setattr(premise, "get", None)
  train.run(configure.override(config, {"checkpoint.every_steps": 1}), tmp_path)
  told = json.loads((tmp_path / "run.json").read_text())
  assert told["problems"] == [note]
  assert told["resumed_at_steps"]


def test_a_sweep_says_it_of_each_method_before_it_begins():
  configs = [
    (name, str(n), configure.to_dict(_config(overrides)))
    for n, (name, overrides) in enumerate(
      [
        ("method 'a' with learning_rate=0.1", NO_NORM),
        ("method 'b'", NORM),
      ]
    )
  ]
  (note,) = preflight.check_here(configs, "eval/loss", [])
  assert note.startswith("method 'a': optimizer 'nap_adamw' keeps the norms")


def test_large_models_say_it_when_they_begin(monkeypatch):
  monkeypatch.setattr(premise, "_FEW_SECONDS_FLOPS", 1.0)
  assert premise.before_runs(_config(NO_NORM)) == ()


def test_others_are_not_asked():
  assert premise.get(_config({**NO_NORM, "optimizer.name": "adamw"})) is None


@pytest.mark.parametrize(
  ("overrides", "holds"),
  [
    ({"model.placement": "nap"}, True),
    pytest.param({"model.placement": "pre"}, False, marks=pytest.mark.slow),
    pytest.param(
      {"model.placement": "nap", "train.precision": "bfloat16"},
      True,
      marks=pytest.mark.slow,
    ),
    pytest.param(
      {"model.name": "gpt2", "model.placement": "nap", "model.use_bias": False},
      True,
      marks=pytest.mark.slow,
    ),
  ],
)
def test_decoders(overrides, holds):
  """With a norm before every nonlinearity no matrix has a scale."""
  config = support.tiny({"optimizer.name": "nap_adamw"}, overrides)
  found = premise.get(config)
  assert found is not None
  num_matrices = 6 if config.model.name == "gpt2" else 7
  assert len(found.paths) == num_matrices
  notes = premise.before_runs(config)
  assert (notes == ()) == holds
  if not holds:
    assert f"{num_matrices} of {num_matrices}: " in notes[0]
