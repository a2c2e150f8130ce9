"""Models of a user's own: what is carried, what is drawn, what is refused."""

import jax
import numpy as np
import pytest

from normjax import build, configure, errors, train
from normjax.sweep import preflight
from normjax.train import preview, program
from normjax.train.checkpoint import Checkpoints

HERE = "tests.train.own_models"
CLASSES = "tests.train.own_models:classes"
LINE = {
  "data.name": "tests.objectives.toys:line",
  "train.batch_size": 16,
  "train.num_steps": 4,
  "train.num_devices": 1,
  "evaluate.batch_size": 16,
}


def _config(name, **changes):
  return configure.override(
    configure.load("configs/default.py"),
    LINE | {"model.name": f"{HERE}:{name}"} | changes,
  )


class _Run:
  """Steps of a config, one at a time."""

  def __init__(self, config):
    self.program, _ = program.get(config)
    self._config = config
    self._hyper = self.program.layout.put_scalars(build.hyper(config))

  def _batch(self, index):
    data = build.dataset(self._config)
    batch = data.train_batch(self._config.seed, index, 16)
    return self.program.layout.put_batch(batch)

  def start(self):
    return self.program.initialize(self._hyper, self._batch(0))

  def steps(self, state, *indices):
    for index in indices:
      state, metrics = self.program.step(state, self._batch(index), self._hyper)
    return state, metrics

  def evaluate(self, state):
    sums = self.program.evaluate(state, self._batch(9), self._hyper)
    return float(sums["loss"] / sums["weight"])


def _assert_same(first, second):
  jax.tree.map(
    np.testing.assert_array_equal, *map(jax.device_get, (first, second))
  )


def test_a_plain_model_is_carried_through_a_checkpoint(tmp_path):
  """Its statistics move in training alone; a resumed run is the same run."""
  run = _Run(_config("Plain"))
  state, _ = run.steps(run.start(), 0, 1)
  assert int(state.stats["num_calls"]) == 2
  assert np.any(state.stats["norm"]["mean"] != 0)
  np.testing.assert_array_equal(state.stats["decayed"], [0.25] * 3)
  assert not state.stats.get("drop")
  first = run.evaluate(state)
  assert first == run.evaluate(state)
  saved = Checkpoints(tmp_path, 1, "run")
  saved.save(run.program.snapshot(state), {})
  saved.close()
  whole, _ = run.steps(state, 2, 3)
  restored = Checkpoints(tmp_path, 1, "run").restore(run.program.abstract_state)
  resumed, _ = run.steps(restored[0], 2, 3)
  _assert_same(whole, resumed)


def test_a_key_per_step_and_seed_drives_dropout():
  """Steps on one batch differ by their masks alone."""
  losses = []
  for seed in (0, 0, 1):
    run = _Run(_config("sequential", **{"seed": seed}))
    state = run.start()
    _, metrics = run.steps(state, 0)
    losses.append(float(metrics["loss"]))
  assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize(
  "name",
  ["Attending", "bridged", "ported", "sequential", "Normed", "Plain"],
)
def test_it_can_be_called_in_training_and_in_evaluation(name):
  """In shapes: the step traces the one, the evaluation the other."""
  config = _config(name, **{"train.accumulation_steps": 2})
  assert "eval/loss" in preview.preview(config).metrics


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Attending", "bridged", "Normed"])
def test_its_parameters_move(name):
  run = _Run(_config(name, **{"train.accumulation_steps": 2}))
  before = jax.device_get(run.start().params)
  state, metrics = run.steps(run.start(), 0)
  assert np.isfinite(metrics["loss"])
  assert run.evaluate(state) == run.evaluate(state)
  moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), before, state.params)
  assert sum(jax.tree.leaves(moved)) > 3


@pytest.mark.slow
def test_eight_devices_carry_the_same_statistics():
  one, eight = (
    _Run(
      _config("Normed", **{"train.num_devices": n, "norm.name": "batch_norm"})
    )
    for n in (1, 8)
  )
  first, _ = one.steps(one.start(), 0)
  second, _ = eight.steps(eight.start(), 0)
  # Means of 16 examples, in another order: 4 roundings of 2**-24.
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    *jax.device_get((first.stats, second.stats)),
  )


@pytest.mark.parametrize(
  ("returns", "message"),
  [
    ("tuple", "it returns a tuple; needed: the logits, an array, or normjax"),
    ("dict", "it returns a dict; needed: the logits, an array, or normjax"),
    ("ints", "it returns logits of int32; needed: floats, one per class"),
    ("few", r"shape \(16, 1\) .*; the model gives|needs? logits of shape"),
    ("growing", "the call makes the variable 'more', a Variable"),
    ("failing", r"ValueError: .*\(.*own_models.py, line \d+\)"),
  ],
)
def test_what_a_call_does_wrong_is_named_before_it_is_compiled(
  returns, message
):
  config = _config("Odd", **{"model.returns": returns})
  with pytest.raises(errors.UserError, match=message) as error:
    preview.preview(config)
  assert returns == "few" or f"model.name='{HERE}:Odd'" in str(error.value)


def test_fewer_logits_than_classes_are_named():
  """Else a label has no logit, and its loss is NaN."""
  config = _config("Odd", **{"model.returns": "few", "data.name": CLASSES})
  with pytest.raises(errors.UserError, match=r"\(16, 1\); .* data's 3 classes"):
    preview.preview(config)


def test_a_model_that_begins_with_nan_is_named(tmp_path):
  config = _config("Odd", **{"model.returns": "nan"})
  with pytest.raises(errors.UserError, match="'weight' is not finite before"):
    train.run(config, tmp_path)


def test_a_sweep_over_norms_that_a_model_does_not_take_is_refused():
  configs = [
    (norm, "", configure.to_dict(_config(name, **{"norm.name": norm})))
    for norm in ("rms_norm", "identity")
    for name in ("Normed", "Plain")
  ]
  with pytest.raises(errors.UserError, match="differ in the block norm alone"):
    preflight.check_here(configs, "eval/loss", [])
