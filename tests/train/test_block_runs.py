"""Runs whose optimizer moves some blocks at a time: resumed, side by side."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import build, train
from normjax.record import files
from normjax.train import block_gradients, program, step
from tests import support


def config_of(**changes):
  """An MLP of two layers and a head, a block each."""
  return support.tiny_mlp(
    {
      "model.num_layers": 2,
      "optimizer.name": "badam",
      "optimizer.others": "block",
      "optimizer.switch_every": 2,
      "train.num_steps": 8,
      "train.gradient_clip": 0.0,
      block_gradients.PATH: True,
      **changes,
    }
  )


def test_a_run_goes_on_at_a_switch(tmp_path):
  """The step after the checkpoint at 4 is the first of other blocks."""
  config = config_of(**{"train.ema_decay": 0.9, "train.accumulation_steps": 2})
  straight = train.run(config, tmp_path / "straight")

  def stop(name, at):
    if (name, at) == ("step", 6):
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    train.run(config, tmp_path / "resumed", stop)
  resumed = train.run(config, tmp_path / "resumed")
  run = files.read_json(tmp_path / "resumed" / files.RUN)
  assert run["resumed_at_steps"] == [4]
  assert resumed["metrics"] == straight["metrics"]


def test_runs_side_by_side():
  """Under `vmap` with blocks of their own; a branch is then a choice."""
  config = config_of()
  recipe, initialize = program.recipe_and_initialize(config)
  batch = dict(build.dataset(config).train_batch(0, 0, config.train.batch_size))
  hyper = build.hyper(config)
  one = functools.partial(step.train_step, recipe)
  state = initialize(hyper)
  counts = jnp.asarray([0, 2], jnp.int32)

  def run(count):
    found = state.optimizer_state[0]._replace(count=count)
    moved, _ = one(
      state._replace(optimizer_state=(found, *state.optimizer_state[1:])),
      batch,
      hyper,
    )
    return moved.params

  together = jax.jit(jax.vmap(run))(counts)
  each = jax.jit(run)
  apart = [each(count) for count in counts]
  for n, expected in enumerate(apart):
    # Sums of at most 64 entries in another order, in float32; Adam's first
    # step is a sign, so that an entry of the size of eps may be off by more.
    jax.tree.map(
      lambda a, e, n=n: np.testing.assert_allclose(
        a[n], e, rtol=1e-4, atol=1e-5
      ),
      together,
      expected,
    )
  differ = jax.tree.map(lambda a, b: bool(np.any(a != b)), *apart)
  assert any(jax.tree.leaves(differ))
