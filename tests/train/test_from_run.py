"""Runs that start from what another one has learned."""

import jax
import numpy as np
import pytest

from normjax import build, configure, errors, train
from normjax.record import files
from normjax.nn import start
from normjax.train import program
from normjax.train.checkpoint import Checkpoints
from tests import support

STEPS = {"train.num_steps": 3, "evaluate.every_steps": 3}
RESNET = {**support.RESNET, **STEPS}
MLP = {
  **{k: v for k, v in RESNET.items() if not k.startswith("model.")},
  "model.name": "mlp",
  "model.num_layers": 1,
  "model.hidden_dim": 16,
}


def make(*changes):
  """The default config with these overrides."""
  flat = {path: value for change in changes for path, value in change.items()}
  return configure.override(configure.load("configs/default.py"), flat)


def last_state(config, directory):
  """What the run's last checkpoint holds."""
  checkpoints = Checkpoints(directory / files.CHECKPOINTS, keep=2)
  state, _, problems = checkpoints.restore(
    program.get(config)[0].abstract_state
  )
  checkpoints.close()
  assert problems == []
  return state


def run_and_go_on(directory, first, second):
  """Both runs' configs and last states."""
  configs, states = [], []
  for name, changes in (("first", first), ("second", second)):
    if configs:
      changes = {**changes, "train.initialize_from": str(directory / "first")}
    configs.append(make(changes))
    train.run(configs[-1], directory / name)
    states.append(last_state(configs[-1], directory / name))
  before = support.rows(directory / "first", "eval")[-1]["loss"]
  # The same sums in another order, a few layers of them.
  row = support.rows(directory / "second", "eval")[0]
  assert (row["step"], row["loss"]) == (0, pytest.approx(before, rel=1e-4))
  assert int(states[-1].step) == 3
  return configs, states


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  """A run's folder and its last state, and that another run went on with it."""
  directory = tmp_path_factory.mktemp("source")
  other = {**MLP, "seed": 1, "optimizer.learning_rate": 0.1}
  _, (old, new) = run_and_go_on(directory, MLP, other)
  for a, b in zip(*map(jax.tree.leaves, (old.params, new.params)), strict=True):
    assert np.any(a != b)
  return directory / "first", old


@pytest.mark.slow
def test_tuning_goes_on_where_training_ended(tmp_path):
  _, (old, new) = run_and_go_on(
    tmp_path, RESNET, {**RESNET, "model.conv_norm_mode": "tune"}
  )
  jax.tree.map(np.testing.assert_array_equal, new.stats, old.stats)


def test_the_optimizer_starts_afresh(source):
  directory, old = source
  config = make(MLP, {"train.initialize_from": str(directory)})
  made, _ = program.get(config)
  hyper = build.hyper(config)
  dataset = build.dataset(config)
  batch = dict(dataset.train_batch(0, 0, config.train.batch_size))
  fresh = made.initialize(hyper, batch)
  state = warm_start.start(config, fresh, hyper)
  assert int(state.step) == 0
  jax.tree.map(np.testing.assert_array_equal, state.params, old.params)
  jax.tree.map(
    np.testing.assert_array_equal, state.optimizer_state, fresh.optimizer_state
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_equal(a.sharding, b.sharding), state, fresh
  )


def test_another_model_is_refused_by_the_names_of_its_leaves(source):
  directory, _ = source
  other = make(
    MLP, {"train.initialize_from": str(directory), "model.hidden_dim": 8}
  )
  _, initialize = program.recipe_and_initialize(other)
  hyper = build.hyper(other)
  with pytest.raises(
    errors.UserError,
    match=(
      r"holds another model: params/head/kernel is \(16, 10\) there and"
      r" \(8, 10\) here; .* and \d+ more"
    ),
  ):
    warm_start.start(other, jax.eval_shape(initialize, hyper), hyper)
  other = make(
    MLP, {"train.initialize_from": str(directory), "norm.name": "identity"}
  )
  _, initialize = program.recipe_and_initialize(other)
  with pytest.raises(
    errors.UserError, match=r"its params/norms/0/norm/bias has no place"
  ):
    warm_start.start(other, jax.eval_shape(initialize, hyper), hyper)


def test_a_folder_without_checkpoints_is_named(tmp_path):
  config = make(MLP, {"train.initialize_from": str(tmp_path)})
  with pytest.raises(
    errors.UserError, match=r"train\.initialize_from=.*: no checkpoint in"
  ):
    train.run(config, tmp_path / "run")
  assert not (tmp_path / "run").exists()
