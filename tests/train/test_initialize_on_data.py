"""Models that are initialized on the run's first batch."""

import jax
import numpy as np
import pytest
from flax import nnx

from normjax import build, errors, rng, train
from normjax.nn import variables as nn_variables
from normjax.train import program
from tests import support

SPIKING = {
  "model.name": "spiking_mlp",
  "model.depth": 2,
  "model.width": 20,
  "model.dynamics": "excitatory_inhibitory",
  "norm.name": "identity",
  "optimizer.name": "ei_sgd",
  "optimizer.learning_rate": 0.01,
  "data.name": "digits",
  "data.scaling": "unit",
  "train.num_steps": 6,
  "checkpoint.every_steps": 2,
}


def _config(**changes):
  return support.tiny_resnet(**{**SPIKING, **changes})


@pytest.fixture(autouse=True)
def _no_depth(monkeypatch):
  """The shared tiny ResNet's config without the ResNet's own options."""
  kept = {k: v for k, v in support.RESNET.items() if "model." not in k}
  monkeypatch.setattr(support, "RESNET", kept)


def test_the_first_batch_initializes_the_model():
  config = _config(seed=3)
  compiled, _ = program.get(config)
  dataset = build.dataset(config)
  batch = dataset.train_batch(3, 0, config.train.batch_size)
  state = compiled.initialize(build.hyper(config), dict(batch))
  rngs = nnx.Rngs(params=rng.fold(3, "init"))
  model = build.model(config, dataset.reads, dataset.model_options, rngs)
  built = nn_variables.split(model)[1]["params"]
  model.initialize_on(batch["inputs"], rng.fold(3, "init_on_data"))
  want = nn_variables.split(model)[1]["params"]
  # Compiled as one, sums of 8 x 64 numbers come in another order.
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
    state.params,
    want,
  )
  gain = want["layers"]["0"]["incoming"]["gain_i"]
  assert np.all(gain != built["layers"]["0"]["incoming"]["gain_i"])


def test_a_resumed_run_is_not_initialized_again(tmp_path):
  config = _config()
  straight = train.run(config, tmp_path / "straight")

  def stop(event, step):
    if (event, step) == ("step", 3):
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    train.run(config, tmp_path / "resumed", stop)
  resumed = train.run(config, tmp_path / "resumed")
  assert resumed["metrics"] == straight["metrics"]
  assert straight["state"] == "done"


def test_inputs_below_zero_are_refused():
  with pytest.raises(
    errors.UserError,
    match=r"'spiking_mlp' needs inputs >= 0 .*'digits' gives -0.*'unit'",
  ):
    program.get(_config(**{"data.scaling": "standardize"}))
