"""What is said before a run is what the run writes."""

import functools

import jax
import pytest

from normjax import build, configure, errors
from normjax.train import check, preview, program
from normjax.train import step as train_step
from tests import support

TRAINING = {"loss", "accuracy", "grad_norm", "update_norm", "learning_rate"}
PROBES = ("scale/", "gradient_norm/", "update/head", "weight_norm/head")


def test_names_are_those_of_a_step():
  config = support.tiny({"log.probes": PROBES})
  recipe, initialize = program.recipe_and_initialize(config)
  hyper = build.hyper(config)
  batch = build.dataset(config).train_batch(0, 0, config.train.batch_size)
  state = jax.eval_shape(initialize, hyper, batch)
  _, metrics = jax.eval_shape(
    functools.partial(train_step.train_step, recipe), state, batch, hyper
  )
  plain = {name for name in metrics if "/" not in name}
  assert plain - {"diverged_at"} == TRAINING
  found = preview.preview(config)
  probes = {name for name in metrics if "/" in name}
  assert "scale/final_norm/scale/rms" in probes
  assert set(found.metrics) == {
    *(f"train/{name}" for name in TRAINING),
    "eval/loss",
    "eval/accuracy",
    "eval/bits_per_byte",
  }
  assert set(found.values) == probes
  assert found.unmatched(PROBES) == []
  assert found.unmatched(("scale/", "nothing", "mean")) == ["nothing", "mean"]
  assert found.unmatched(("final_norm/scale$",)) == []
  wanted = ["eval/loss", "last(weight_norm/head/kernel)"]
  preview.check_metrics("Sweep.metric", wanted, found)
  for name, said in (
    ("last(weight_norm/hed/kernel)", "Did you mean 'weight_norm/head/kernel'"),
    ("probe/weight_norm/head/kernel", "will be in no result"),
  ):
    with pytest.raises(errors.UserError, match=said):
      preview.check_metrics("Sweep.metric", [name], found)


def test_corruptions_have_names():
  config = support.tiny_resnet(**{"evaluate.corruptions": ("fog_2",)})
  check.check(config)
  metrics = preview.preview(config).metrics
  assert {
    "eval/accuracy/fog_2",
    "eval/loss/fog_2",
    "eval/mean_corrupted_accuracy",
    "eval/relative_corrupted_accuracy",
  } < set(metrics)
  assert "eval/bits_per_byte" not in metrics


def test_cross_checks():

  wsd = {"schedule.name": "wsd", "schedule.warmup_fraction": 0.9}
  for change, message in (
    (wsd, "schedule.warmup_fraction=0.9 and schedule.decay_fraction=0.2"),
    (
      {"data.name": "iris", "model.name": "mlp", "train.batch_size": 128},
      "train.batch_size=128 is more than the 90 examples that data 'iris'",
    ),
    (
      {"evaluate.split": "test"},
      "evaluate.split='test': data 'shakespeare' has no split 'test'; allowed:"
      " 'train', 'tuning', 'validation'",
    ),
    (
      {"evaluate.split": "tuning", "data.tuning_split": False},
      "'train', 'validation'. data.tuning_split=False gives it none.",
    ),
    ({"evaluate.split": "tune"}, "evaluate.split='tune'; allowed: 'validati"),
    ({"optimizer.b1": 2.0}, "optimizer.b1=2.0: "),
    ({"data.sequence_length": 0}, "data.sequence_length=0: "),
    ({"optimizer.eps": 1e-60}, "optimizer.eps=1e-60 must be 0 or between"),
  ):
    base = configure.load("configs/default.py")
    with pytest.raises(errors.UserError) as error:
      check.check(configure.override(base, change))
    assert message in str(error.value)


def test_a_model_is_built_once_for_programs_that_share_it(monkeypatch):
  """Two optimizers, one model: the second's shapes are known."""
  config = support.tiny()
  first = preview.preview(config)
  monkeypatch.setattr(build, "model", None)
  other = configure.override(config, {"optimizer.name": "sgd"})
  assert preview.preview(other) == first


def test_an_evaluation_is_traced_once_for_programs_that_share_it(monkeypatch):
  config = support.tiny({"log.probes": ()})
  first = preview.preview(config)
  monkeypatch.setattr(train_step, "forward", None)
  other = configure.override(config, {"optimizer.name": "sgd"})
  assert preview.preview(other) == first
  changed = configure.override(other, {"evaluate.metrics": ("perplexity",)})
  with pytest.raises(TypeError):  # Another evaluation: `forward` is called.
    preview.preview(changed)


def test_shapes_of_a_state_are_those_of_its_initialization():
  config = support.tiny()
  recipe, initialize = program.recipe_and_initialize(config)
  hyper = build.hyper(config)
  batch = build.dataset(config).train_batch(0, 0, config.train.batch_size)
  drawn = jax.eval_shape(initialize, hyper, batch)
  told = program.state_in_shapes(config, recipe, initialize, hyper, batch)
  assert jax.tree.all(jax.tree.map(lambda a, b: a == b, told, drawn))
