"""ReLoRA's warm start: a dense run's matrices become W_0."""

import jax
import numpy as np
import pytest

from normjax import build, configure, errors, train
from normjax.record import files
from normjax.train import program
from normjax.train.checkpoint import Checkpoints
from tests import support

STEPS = {
  "train.num_steps": 4,
  "evaluate.every_steps": 4,
  "checkpoint.every_steps": 4,
  "model.use_bias": True,
}
RELORA = {
  "model.linear": "relora(rank=2, restart_every=2)",
  "schedule.name": "cosine_restarts",
  "schedule.restart_warmup_steps": 1,
}


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
  """A dense run's folder and its last parameters."""
  directory = tmp_path_factory.mktemp("warm_start") / "dense"
  config = support.tiny(STEPS)
  train.run(config, directory)
  checkpoints = Checkpoints(directory / files.CHECKPOINTS, keep=1)
  state, _, problems = checkpoints.restore(
    program.get(config)[0].abstract_state
  )
  checkpoints.close()
  assert problems == []
  return directory, jax.device_get(state.params)


def _continued(directory, changes=None):
  start = {"train.initialize_from": str(directory)}
  return support.tiny(STEPS, RELORA, start, changes or {})


def test_matrices_become_w_0(dense):
  directory, params = dense
  config = _continued(directory)
  program.check_start(config)
  _, initialize = program.recipe_and_initialize(config)
  drawn = initialize(build.hyper(config))
  state = initialize(build.hyper(config), None, build.start_steps(config))
  for branch, name in (("attention", "query"), ("feed_forward", "down")):
    layer = params["layers"]["0"][branch][name]
    held = state.stats["layers"]["0"][branch][name]["frozen_kernel"]
    np.testing.assert_array_equal(held, layer["kernel"].reshape(held.shape))
    own = state.params["layers"]["0"][branch][name]
    before = drawn.params["layers"]["0"][branch][name]
    np.testing.assert_array_equal(own["lora_a"], before["lora_a"])
    assert np.any(own["lora_a"])
    assert not np.any(own["lora_b"])
    np.testing.assert_array_equal(own["bias"], layer["bias"].ravel())
  np.testing.assert_array_equal(
    state.params["head"]["kernel"], params["head"]["kernel"]
  )


def test_it_goes_on_where_dense_training_ended(dense, tmp_path):
  directory, _ = dense
  train.run(_continued(directory), tmp_path / "relora")
  before = support.rows(directory, "eval")[-1]["loss"]
  rows = support.rows(tmp_path / "relora", "eval")
  # The same sums in another order, a few layers of them.
  assert (rows[0]["step"], rows[0]["loss"]) == (
    0,
    pytest.approx(before, rel=1e-4),
  )
  assert rows[-1]["loss"] != rows[0]["loss"]


def test_a_run_of_factors_starts_another_as_it_is(dense, tmp_path):
  """Also at its own names: nothing is taken for a kernel."""
  directory, _ = dense
  first = _continued(directory)
  train.run(first, tmp_path / "first")
  program.check_start(_continued(tmp_path / "first", {"seed": 3}))


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"model.hidden_dim": 24}, "feed_forward/.*kernel is .* there and .* here"),
    ({"model.linear": "sltrain(rank=2)"}, "it has no params/.*lora_a"),
    (
      {"model.num_layers": 3, "model.linear": "lora(rank=2)"},
      "it has no params/layers/1/.*kernel",
    ),
  ],
)
def test_another_model_is_named(dense, changes, said):
  directory, _ = dense
  if "sltrain" in changes.get("model.linear", ""):
    changes = {**changes, "schedule.name": "constant"}
    changes["schedule.restart_warmup_steps"] = 0
  config = _continued(directory, changes)
  with pytest.raises(errors.UserError, match=said):
    program.check_start(config)


def test_run_ids_of_before_stay():
  """The schedule's new leaves are in no config that does not set them."""
  resolved = configure.to_dict(support.tiny())
  assert not {"restart_every", "restart_warmup_steps"} & {*resolved["schedule"]}
