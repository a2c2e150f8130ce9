"""Context from a config: blocks, controls, and few queries."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from normjax import build, context, errors, load_run, rng, train
from normjax.context import loop
from normjax.data import blocks
from normjax.record import files
from normjax.train import check, drawing, preview
from tests import support

WINE = {
  "data.name": "wine",
  "data.domain_column": "alcohol",
  "optimizer.name": "sgd",
  "optimizer.learning_rate": 0.05,
  "optimizer.momentum": 0.0,
  "schedule.name": "constant",
  "schedule.warmup_fraction": 0.0,
  "train.gradient_clip": 0.0,
  "train.num_steps": 4,
  "train.batch_size": 16,
  "train.accumulation_steps": 2,
  "context.method": "cs_arm_bn",
  "context.num_controls": 6,
  "context.control_class": 1,
  "context.protocols": ("mixed_8", "sorted_2"),
}


def _config(**changes):
  named = {key.replace("__", "."): value for key, value in changes.items()}
  return support.tiny_mlp(WINE, named)


def test_a_run_is_the_loop_of_context(tmp_path):
  config = _config()
  result = train.run(config, tmp_path)
  data = build.dataset(config)
  drawn = drawing.of(config)
  held = drawn.draw(build.hyper(config))
  program = loop.Program(drawn.model, context.make("cs_arm_bn"), optax.sgd)
  state = loop.State(
    held["params"], held["stats"], optax.sgd(0.05).init(held["params"])
  )
  for number in range(4):
    batch = data.train_batch(config.seed, number, 16)
    given = loop.Blocks(
      batch["inputs"].reshape(2, 8, -1),
      batch["targets"].reshape(2, 8),
      batch["controls"].reshape(2, 6, -1),
    )
    key = rng.fold(config.seed, "context", number)
    state, loss = loop.step(program, 0.05, state, given, key)
  ran = load_run(tmp_path)
  last = support.rows(tmp_path, "train")[-1]
  np.testing.assert_allclose(last["objective"], loss, rtol=1e-4)
  for mine, theirs in zip(
    jax.tree.leaves((ran.state.params, ran.state.stats)),
    jax.tree.leaves((state.params, state.stats)),
    strict=True,
  ):
    np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)
  measured = result["metrics"]
  assert {*measured} == {*preview.preview(config).metrics}
  # Each query of the validation part once, those of all domains together.
  stored = data.grouped("validation")
  scaled = (stored.inputs - data.mean) / data.deviation
  rows = context.accuracies(
    ran.model,
    stored._replace(inputs=jnp.asarray(scaled, jnp.float32)),
    "cs_arm_bn",
    sizes=(8,),
    orders=("mixed",),
    num_controls=6,
    seed=config.seed,
  )
  hits = sum(row["n"] * row["accuracy"] for row in rows)
  count = sum(row["n"] for row in rows)
  assert count == (data.validation[1] != 1).sum()
  np.testing.assert_allclose(
    measured["eval/context/mixed_8/accuracy"], hits / count
  )
  assert files.read_json(tmp_path / files.RESULT)["state"] == "done"


def test_blocks_of_a_data_set():
  data = build.dataset(_config())
  batch = data.train_batch(0, 3, 16)
  again = data.train_batch(0, 3, 16)
  jax.tree.map(np.testing.assert_array_equal, batch, again)
  domains = batch["domain"].reshape(2, 8)
  assert (domains == domains[:, :1]).all()
  assert not (batch["targets"] == 1).any()
  assert batch["controls"].shape == (12, 13)
  # Controls are of their block's domain, and of the class of controls.
  inputs, labels = data.train
  for block, own in zip(
    batch["controls"].reshape(2, 6, 13), domains[:, 0], strict=True
  ):
    stored = block * data.deviation + data.mean
    place = np.abs(inputs - stored[:, None]).sum(-1).argmin(-1)
    assert (labels[place] == 1).all()
    assert (data.domains_of("train", place) == own).all()
  # Of a method that reads no controls there are none; the class stays out.
  mixed = build.dataset(_config(context__method="erm"))
  batch = mixed.train_batch(0, 3, 16)
  assert "controls" not in batch
  assert not (batch["targets"] == 1).any()
  assert len({*batch["domain"].tolist()}) == 2
  assert isinstance(mixed.grouped("train"), blocks.Domains)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"context__method": "arm"}, "context.method='arm': .*arm_bn"),
    ({"context__num_controls": 0}, "num_controls=0: it needs controls"),
    ({"context__control_class": 3}, "classes 0 to 2; none is 3"),
    ({"context__protocols": ("8",)}, "protocols has '8'; allowed: mixed_N"),
    ({"data__domain_column": ""}, "which domain it is from: set"),
    ({"train__z_loss": 0.1}, "train.z_loss=0.1 with context.method"),
  ],
)
def test_bad_configs_are_refused(changes, message):
  with pytest.raises(errors.UserError, match=message) as error:
    check.check(_config(**changes))
  assert "\n" not in str(error.value)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"train__num_devices": 2}, "Set train.num_devices=1, in one process"),
    (
      {"context__method": "arm_bn", "context__protocols": ("mixed_1",)},
      "context.method='arm_bn': 1 queries and 0 controls: ",
    ),
  ],
)
def test_what_a_model_cannot_is_refused_in_shapes(changes, message):
  with pytest.raises(errors.UserError, match=message):
    preview.preview(_config(**changes))
