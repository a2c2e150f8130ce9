"""The comparison of lean methods that comes with the project."""

import os

import jax
import pytest
import rich.console
from flax import nnx
from in_process import InProcess

from normjax import build, configure, errors, optim
from normjax.nn.linear import resolve
from normjax.sweep import api
from normjax.train import check, program

SWEEP = configure.load_module("configs/sweeps/memory.py")
ROWS, LARGE = SWEEP.methods(SWEEP.SMALL), SWEEP.large()
SMALL = {
  label: configure.override(SWEEP.get_config(), row)
  for label, row in ROWS.items()
}
# What goes with the width of the model or with the number of its layers.
SCALED = {
  "adafactor": {"optimizer.min_dim_size_to_factor"},
  "apollo": {"optimizer.rank"},
  "apollo_mini": {"optimizer.scale"},
  "galore": {"optimizer.rank"},
  "lisa": {"optimizer.num_active"},
  "low_rank": {"model.linear"},
  "relora": {"model.linear"},
  "sltrain": {"model.linear"},
}


def _model(config):
  dataset = build.dataset(config)
  return nnx.eval_shape(
    lambda: build.model(
      config, dataset.reads, dataset.model_options, nnx.Rngs(params=0)
    )
  )


def test_the_costs_have_the_sweeps_rows():
  sweep = SWEEP.sweep()
  assert list(LARGE) == list(sweep.labels) == list(ROWS)
  assert sweep.baseline == sweep.labels[0] == "adamw"
  assert len(sweep.seeds) >= 5


@pytest.mark.parametrize("label", ROWS)
def test_each_row_is_a_config_in_both_sizes(label):
  check.check(SMALL[label])
  check.check(LARGE[label])
  assert not SMALL[label].optimizer.get("weight_decay", 0.0)
  small, large = SMALL[label].to_dict(), LARGE[label].to_dict()
  assert small["data"]["name"] != large["data"].pop("name")
  differing = {
    key
    for key, value in configure.leaves(large)
    if key.startswith(("optimizer.", "train.", "model.linear"))
    and dict(configure.leaves(small))[key] != value
  }
  shared = {"train.batch_size", "train.precision"}
  assert differing == shared | SCALED.get(label, set())


def test_both_sizes_are_as_the_rows_have_them():
  for size, config in (
    (SWEEP.SMALL, SMALL["adamw"]),
    (SWEEP.LLAMA_60M, LARGE["adamw"]),
  ):
    model = _model(config)
    assert model.embedding.features == size.width
    assert size.factored <= size.width
    assert 4 * SWEEP.methods(size)["apollo"]["optimizer.rank"] == size.width
    assert size.lisa_layers < len(model.layers)


def test_the_large_rows_have_sltrains_official_numbers():
  """Those of its script for 60M, and parameters counted by its shapes."""
  options = resolve(LARGE["sltrain"].model.linear).options
  assert options == {"rank": 128, "density": 0.03, "alpha": 32.0}
  shapes = [(512, 512)] * 4 + [(512, 1376)] * 2 + [(1376, 512)]
  rest = 2 * 32_000 * 512 + 17 * 512  # Embedding, head, gains.
  expected = {
    "adamw": sum(i * o for i, o in shapes),
    "low_rank": sum(128 * (i + o) for i, o in shapes),
    "sltrain": sum(128 * (i + o) + int(0.03 * i * o) for i, o in shapes),
  }
  for label, per_layer in expected.items():
    params = nnx.state(_model(LARGE[label]), nnx.Param)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert count == 8 * per_layer + rest


@pytest.mark.parametrize("label", ["bcd", "zeroth_order, sgd"])
def test_rows_without_a_state_have_none(label):
  """But for counts: of steps, and of draws."""
  config = SMALL[label]
  recipe, initialize = program.recipe_and_initialize(config)
  hyper = build.hyper(config)
  batch = build.dataset(config).train_batch(0, 0, 1)
  made = jax.eval_shape(initialize, hyper, batch)
  assert optim.state_bytes(made.optimizer_state) < 32


@pytest.mark.parametrize("label", ["badam", "lisa"])
def test_every_block_has_several_turns(label):
  config = SMALL[label]
  turns = config.train.num_steps // config.optimizer.switch_every
  num_blocks = len(_model(config).layers) + (label == "badam")
  assert turns >= 3 * num_blocks


def test_guesses_are_of_another_seed_and_of_data_to_tune_on():
  config, points = SWEEP.get_config("guesses"), SWEEP.sweep("guesses")
  assert set(SWEEP.GUESSED) < set(ROWS)
  assert len(points) == len(SWEEP.GUESSED) * len(SWEEP.WIDE)
  seeds = SWEEP.sweep().seeds
  assert config.seed not in {*seeds, *(1000 + seed for seed in seeds)}
  assert config.evaluate.split == "tuning"


def test_a_bad_argument_is_named():
  with pytest.raises(errors.UserError, match="'debag'; allowed: debug, gues"):
    SWEEP.sweep("debag")
  with pytest.raises(errors.UserError, match="'debag'; allowed: debug, gues"):
    SWEEP.large("debag")


@pytest.mark.slow  # It compiles three programs.
def test_debug_runs_to_the_report(tmp_path):
  rows = "^(adamw|badam|zeroth_order, sgd)$"
  with open(os.devnull, "w") as nothing:
    summary = api.run_sweep(
      "configs/sweeps/memory.py:debug",
      tmp_path,
      methods=rows,
      executor=InProcess,
      console=rich.console.Console(file=nothing),
    )
  # Three rates and a final run, for two seeds.
  assert (summary.num_done, summary.exit_code) == (3 * 2 * 4, 0)
