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
  # No Adam: its first step is a sign, also of a gradient that is rounding.
  config = config_of(
    **{"optimizer.name": "bcd", "optimizer.order": "ascending"}
  )
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
    # Float32: sums of at most 64 entries of size 1 in another order, times
    # the rate 0.1.
    jax.tree.map(
      lambda a, e, n=n: np.testing.assert_allclose(
        a[n], e, rtol=1e-6, atol=0.1 * 64 * 2.0**-24
      ),
      together,
      expected,
    )
  differ = jax.tree.map(lambda a, b: bool(np.any(a != b)), *apart)
  assert any(jax.tree.leaves(differ))
