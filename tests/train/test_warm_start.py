"""Runs that start from what another one has learned."""

import jax
import numpy as np
import pytest

from normjax import build, errors, train
from normjax.record import files
from normjax.train import program, warm_start
from normjax.train.checkpoint import Checkpoints
from tests import support

STEPS = {"train.num_steps": 3, "evaluate.every_steps": 3}


def last_state(config, directory):
  """What the run's last checkpoint holds."""
  checkpoints = Checkpoints(directory / files.CHECKPOINTS, keep=2)
  state, _, problems = checkpoints.restore(
    program.get(config)[0].abstract_state
  )
  checkpoints.close()
  assert problems == []
  return state


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  """A run's folder, its config and its last state."""
  directory = tmp_path_factory.mktemp("source")
  config = support.tiny_resnet(**STEPS)
  train.run(config, directory)
  return directory, config, last_state(config, directory)


def test_tuning_goes_on_where_training_ended(source, tmp_path):
  directory, config, old = source
  tuned = support.tiny_resnet(
    **STEPS,
    **{
      "train.initialize_from": str(directory),
      "model.conv_norm_mode": "tune",
      "train.batch_size": 16,
    },
  )
  train.run(tuned, tmp_path)
  before = support.rows(directory, "eval")[-1]["loss"]
  # The same sums in another order, eight layers of them.
  first = support.rows(tmp_path, "eval")[0]
  assert (first["step"], first["loss"]) == (0, pytest.approx(before, rel=1e-4))
  new = last_state(tuned, tmp_path)
  jax.tree.map(np.testing.assert_array_equal, new.stats, old.stats)
  assert all(
    np.any(a != b)
    for a, b in zip(
      jax.tree.leaves(new.params), jax.tree.leaves(old.params), strict=True
    )
  )
  assert int(new.step) == 3


def test_the_optimizer_starts_afresh(source):
  directory, config, old = source
  config = support.tiny_resnet(
    **STEPS, **{"train.initialize_from": str(directory)}
  )
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
  directory, _, _ = source
  other = support.tiny_resnet(
    **{"train.initialize_from": str(directory), "model.width": 8}
  )
  _, initialize = program.recipe_and_initialize(other)
  hyper = build.hyper(other)
  with pytest.raises(
    errors.UserError,
    match=(
      r"holds another model: params/head/kernel is \(16, 10\) there and"
      r" \(32, 10\) here; .* and \d+ more"
    ),
  ):
    warm_start.start(other, jax.eval_shape(initialize, hyper), hyper)
  other = support.tiny_resnet(
    **{"train.initialize_from": str(directory), "norm.name": "identity"}
  )
  _, initialize = program.recipe_and_initialize(other)
  with pytest.raises(
    errors.UserError, match=r"its params/.*/norm/norm/bias has no place"
  ):
    warm_start.start(other, jax.eval_shape(initialize, hyper), hyper)


def test_a_folder_without_checkpoints_is_named(tmp_path):
  config = support.tiny_resnet(**{"train.initialize_from": str(tmp_path)})
  with pytest.raises(
    errors.UserError, match=r"train\.initialize_from=.*: no checkpoint in"
  ):
    train.run(config, tmp_path / "run")
  assert not (tmp_path / "run").exists()
