"""Runs whose optimizer moves some blocks at a time: resumed, side by side."""

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


@pytest.mark.parametrize(
  "norm", [pytest.param("batch_norm", marks=pytest.mark.slow), "identity"]
)
def test_runs_side_by_side_move_blocks_of_their_own(norm):
  """Under `vmap` each computes all branches and takes one.

  What feeds a batch norm has entries without a gradient: a bias, the weights
  of a pixel that is the same in the whole batch. Theirs is rounding, which is
  another one in another program, and Adam's first step is its sign times the
  rate: so would AdamW of all parameters differ. This epsilon bounds that.
  """
  rate, eps = 1e-3, 1e-3
  config = config_of(
    **{
      "norm.name": norm,
      "optimizer.order": "ascending",
      "optimizer.learning_rate": rate,
      "optimizer.eps": eps,
    }
  )
  recipe, initialize = program.recipe_and_initialize(config)
  batch = dict(build.dataset(config).train_batch(0, 0, config.train.batch_size))
  hyper = build.hyper(config)
  state = initialize(hyper)

  def run(count, scale):
    found = state.optimizer_state[0]._replace(count=count)
    moved, _ = step.train_step(
      recipe,
      state._replace(
        params=jax.tree.map(lambda w: w * scale, state.params),
        optimizer_state=(found, *state.optimizer_state[1:]),
      ),
      batch,
      hyper,
    )
    return moved.params

  # The first of block 0, of block 1 and of the head, on weights of their own.
  counts = jnp.asarray([0, 2, 4], jnp.int32)
  scales = jnp.asarray([1.0, 1.25, 0.75])
  together = jax.jit(jax.vmap(run))(counts, scales)
  alone = jax.jit(run)
  apart = [alone(*each) for each in zip(counts, scales, strict=True)]
  # A step is rate g / (|g| + eps), with a slope of at most rate / eps in g;
  # g is a sum of 64 terms below 1, and its own roundings are relative.
  atol = rate / eps * 64 * 2.0**-24
  for n, expected in enumerate(apart):
    jax.tree.map(
      lambda a, e, n=n: np.testing.assert_allclose(
        a[n], e, rtol=1e-6, atol=atol
      ),
      together,
      expected,
    )
    # Only the block's own have moved.
    for name, moves in (("0", n == 0), ("1", n == 1)):
      before = state.params["layers"][name]["kernel"] * scales[n]
      assert bool(jnp.any(expected["layers"][name]["kernel"] != before)) == (
        moves
      )
