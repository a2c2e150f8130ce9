"""The comparison of heads that comes with the project."""

import json
import os

import pytest
import rich.console
from flax import nnx
from in_process import InProcess

from normjax import build, configure, errors
from normjax.sweep import api
from normjax.train import check
from tests import support

SWEEP = configure.load_module("configs/sweeps/heads.py")
TINY = '''
from normjax import configure
from normjax.sweep import Sweep
from tests import support

HEADS = configure.load_module("configs/sweeps/heads.py")
LABELS = ("linear", "equiangular, 6 dimensions")

def get_config():
  tiny = {**support.MLP, "train.batch_size": 64, "train.num_steps": 40,
          "optimizer.learning_rate": 0.03, "evaluate.every_steps": 40,
          "evaluate.batch_size": 64}
  return configure.override(HEADS.get_config(), tiny)

def sweep():
  return Sweep(
    methods=[HEADS.METHODS[label] for label in LABELS],
    labels=LABELS,
    seeds=(1, 2),
  )
'''  # fmt: skip


@pytest.mark.parametrize("label", SWEEP.METHODS)
def test_each_row_can_be_made(label):
  config = configure.override(SWEEP.get_config(), SWEEP.METHODS[label])
  options = {"num_classes": 10, "input_shape": (8, 8, 1)}
  model = nnx.eval_shape(
    lambda: build.model(config, "images", options, nnx.Rngs(params=0))
  )
  assert (type(model.head) is nnx.Linear) == (label == "linear")
  build.objective(config)


def test_a_tiny_sweep_compares_heads(tmp_path):
  file, out = tmp_path / "tiny.py", tmp_path / "out"
  file.write_text(TINY)
  with open(os.devnull, "w") as nothing:
    console = rich.console.Console(file=nothing)
    summary = api.run_sweep(file, out, executor=InProcess, console=console)
  assert (summary.num_done, summary.exit_code) == (4, 0)
  for result in out.glob("runs/*/result.json"):
    measured = json.loads(result.read_text())["metrics"]
    # Ten classes: both have learned something.
    assert measured["eval/accuracy"] > 0.3
    assert measured["eval/recall_at_k(k=2)"] >= measured["eval/accuracy"]
    assert "eval/hubness_skewness" in measured


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (
      {"model.head": "equiangular(embedding_dim=4, tau=0.3)"},
      "^model.head='equiang.*': equiangular: tau=0.3; .* bound, 0.4082 of 10",
    ),
    (
      {"model.head": "normalised_softmax"},
      "^model.head='normalised_softmax': unknown .* Did you mean 'normalized",
    ),
    (
      {"model.head": "prototype(temperature=0.0)"},
      "^model.head='prototype.*': prototype: temperature=0.0; allowed: a fini",
    ),
  ],
)
def test_what_does_not_fit_is_named_before_anything_runs(changes, message):
  config = configure.override(support.tiny_mlp(), changes)
  options = {"num_classes": 10, "input_shape": (8, 8, 1)}
  with pytest.raises(errors.UserError, match=message) as error:
    build.model(config, "images", options, nnx.Rngs(params=0))
  assert "\n" not in str(error.value)


def test_a_metric_that_cannot_be_is_named_before_anything_runs():
  config = configure.override(
    support.tiny_mlp(), {"evaluate.metrics": ("recall_at_k(k=0)",)}
  )
  wanted = "^evaluate.metrics: recall_at_k: k=0; allowed: an int >= 1"
  with pytest.raises(errors.UserError, match=wanted):
    check.check(config)
