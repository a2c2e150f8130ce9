"""A loss that is a plain function: exact means, options, what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest

from normjax import build, configure, errors, objectives
from normjax.nn.output import Output
from normjax.train import check, preview
from tests import support

HERE = __name__


def absolute(outputs, batch, *, power: float = 1.0):
  error = jnp.abs(outputs.logits - batch["targets"]) ** power
  return {"loss": jnp.mean(error, -1), "near": jnp.max(error, -1) < 0.5}


def alone(outputs, batch):
  return jnp.mean(jnp.square(outputs.logits - batch["targets"]), -1)


def averaged(outputs, batch):
  return jnp.mean(alone(outputs, batch))


def whole(outputs, batch):
  return jnp.zeros(batch["weight"].shape, int)


def unnamed(outputs, batch):
  return {"mine": alone(outputs, batch)}


def listed(outputs, batch):
  return [0.0]


def failing(outputs, batch):
  return batch["labels"]


def _config(name, **changes):
  base = {
    "model.name": "tests.train.own_models:Normed",
    "data.name": "tests.objectives.toys:line",
    "objective.name": f"{HERE}:{name}",
    "evaluate.batch_size": 8,
  }
  return configure.override(
    configure.load("configs/default.py"), base | changes
  )


def test_the_means_are_exact_however_the_batch_is_split():
  made = objectives.make(f"{HERE}:absolute", power=2.0)
  z, y = (np.asarray(support.normal(6, 2, seed=s)) for s in (0, 1))
  weight = np.array([1.0, 0.5, 1, 1, 0, 2], "float32")
  parts = [
    made.sums(Output(jnp.asarray(z[s])), {"targets": y[s], "weight": weight[s]})
    for s in (slice(0, 2), slice(2, 6))
  ]
  error = np.square(z.astype(float) - y)
  for name, each in {
    "objective": error.mean(-1),
    "loss": error.mean(-1),
    "near": error.max(-1) < 0.5,
    "weight": 1.0,
  }.items():
    total = sum(float(part[name]) for part in parts)
    np.testing.assert_allclose(total, (weight * each).sum(), rtol=1e-6)


def test_padding_counts_for_nothing():
  batch = {"targets": jnp.full((2, 1), jnp.nan), "weight": jnp.zeros(2)}
  sums = objectives.make(f"{HERE}:alone").sums(Output(jnp.ones((2, 1))), batch)
  assert float(sums["loss"]) == 0.0


def test_a_config_names_it_and_its_options():
  """A float of its signature is traced; its means are columns."""
  config = _config("absolute")
  assert build.scalars(config)["objective.power"] == 1.0
  other = configure.override(config, {"objective.power": 2.0})
  assert build.program_key(config) == build.program_key(other)
  check.check(config)
  metrics = preview.preview(config).metrics
  assert {"eval/loss", "eval/near", "train/near"} < {*metrics}
  with pytest.raises(errors.ConfigError, match="'objective.pwoer'. Did you"):
    _config("absolute", **{"objective.pwoer": 1.0})
  with pytest.raises(errors.UserError, match="no option 'pwoer'. Options: pow"):
    objectives.make(f"{HERE}:absolute", pwoer=1.0)


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("averaged", r"'loss' has the shape \(\); needed: one value per example"),
    ("whole", "'loss' is int32, which has no gradient; needed: floats"),
    ("unnamed", "gives mine; it must give 'loss'"),
    ("listed", "'loss' has the type list; needed: one value per example"),
    ("failing", r"failed: KeyError: 'labels' \(.*test_function.py, line"),
  ],
)
def test_what_gives_no_loss_is_named_before_it_is_compiled(name, message):
  with pytest.raises(errors.UserError, match=f"{HERE}:{name}'.* ?{message}"):
    preview.preview(_config(name))
