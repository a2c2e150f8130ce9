"""Runs that start from what another one has learned."""

import shutil

import jax
import numpy as np
import pytest

from normjax import build, configure, errors, train
from normjax.record import files
from normjax.sweep import preflight
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
  state = made.initialize(hyper, batch, build.start_steps(config))
  assert int(state.step) == 0
  jax.tree.map(np.testing.assert_array_equal, state.params, old.params)
  jax.tree.map(
    np.testing.assert_array_equal, state.optimizer_state, fresh.optimizer_state
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_equal(a.sharding, b.sharding), state, fresh
  )


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (
      {"model.hidden_dim": 8},
      r"holds another model: params/head/kernel is \(16, 10\) there and"
      r" \(8, 10\) here; .* and \d+ more",
    ),
    ({"norm.name": "identity"}, r"its params/norms/0/norm/bias has no place"),
  ],
)
def test_another_model_is_refused_by_the_names_of_its_leaves(
  source, tmp_path, change, message
):
  """Before anything starts, and by a sweep as well."""
  directory, _ = source
  other = make(MLP, {"train.initialize_from": str(directory)}, change)
  with pytest.raises(errors.UserError, match=message) as caught:
    train.run(other, tmp_path / "run")
  said = str(caught.value)
  assert said.startswith(f"train.initialize_from={str(directory)!r}: ")
  assert "\n" not in said
  assert not (tmp_path / "run").exists()
  plain = configure.to_dict(other)
  with pytest.raises(errors.UserError) as caught:
    preflight.check_here([("method 'a'", "p", plain)], "eval/loss", [])
  assert str(caught.value) == f"method 'a': {said}"


def test_each_folder_of_a_program_is_checked(source, tmp_path):
  """Runs that start from different folders share a program."""
  directory, _ = source
  configs = [
    make(MLP, {"train.initialize_from": str(d)}) for d in (directory, tmp_path)
  ]
  keys = {build.program_key(config) for config in configs}
  assert keys == {build.program_key(make(MLP))}
  with pytest.raises(
    errors.UserError, match="method 'b': .*: no checkpoint in"
  ):
    preflight.check_here(
      [
        (f"method {name!r}", "p", configure.to_dict(config))
        for name, config in zip("ab", configs, strict=True)
      ],
      "eval/loss",
      [],
    )


def test_a_folder_without_checkpoints_is_named(tmp_path):
  config = make(MLP, {"train.initialize_from": str(tmp_path)})
  with pytest.raises(
    errors.UserError, match=r"train\.initialize_from=.*: no checkpoint in"
  ):
    train.run(config, tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_a_resumed_run_does_not_need_the_folder(source, tmp_path):
  directory, _ = source
  moved = tmp_path / "source"
  shutil.copytree(directory, moved)
  config = make(
    MLP,
    {"train.initialize_from": str(moved), "checkpoint.every_steps": 2},
  )
  train.run(config, tmp_path / "straight")

  def stop(name, step):
    if (name, step) == ("step", 2):
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    train.run(config, tmp_path / "run", stop)
  shutil.rmtree(moved)
  train.run(config, tmp_path / "run")
  run = files.read_json(tmp_path / "run" / files.RUN)
  assert run["resumed_at_steps"] == [2]
  for kind in ("train", "eval"):
    rows = support.rows(tmp_path / "run", kind)
    assert rows == support.rows(tmp_path / "straight", kind)


def test_a_damaged_checkpoint_is_said(source, tmp_path):
  directory, _ = source
  hurt = tmp_path / "source"
  shutil.copytree(directory, hurt)
  shutil.rmtree(hurt / files.CHECKPOINTS / "3" / "state")
  config = make(MLP, {"train.initialize_from": str(hurt)})
  with pytest.raises(
    errors.UserError, match=r"the checkpoint .*/ckpt/3 cannot be read: .* Move"
  ):
    program.check_start(config)
