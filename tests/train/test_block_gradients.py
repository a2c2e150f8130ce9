"""`train.block_gradients`: the same steps, of which less is computed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import build, errors, optim
from normjax.train import block_gradients, program, step
from tests import products, support

LAYERS = 3
LOOP = {"model.scan_layers": True}


def config_of(optimizer, **changes):
  """A decoder of three layers, whose blocks change at every step."""
  return support.tiny(
    {
      "model.num_layers": LAYERS,
      "train.gradient_clip": 0.0,
      "optimizer.name": optimizer,
      "optimizer.switch_every": 1,
      **changes,
    }
  )


def prepared(config):
  """(the uncompiled step, state, batch, scalars)."""
  recipe, initialize = program.recipe_and_initialize(config)
  hyper = build.hyper(config)
  batch = dict(build.dataset(config).train_batch(0, 0, config.train.batch_size))
  return functools.partial(step.train_step, recipe), initialize, batch, hyper


def run(config, num_steps=3):
  """Parameters after some steps, and the losses before."""
  one, initialize, batch, hyper = prepared(config)
  state, losses = jax.jit(initialize)(hyper), []
  one = jax.jit(one)
  for _ in range(num_steps):
    state, metrics = one(state, batch, hyper)
    losses.append(float(metrics["loss"]))
  return jax.device_get(state), losses


@pytest.mark.parametrize(
  ("optimizer", "changes"),
  [
    ("badam", {"train.accumulation_steps": 2}),
    ("lisa", {"optimizer.num_active": 2}),
    # The last block is what is in no layer: the loop goes all the way back.
    ("badam", {**LOOP, "optimizer.others": "block"}),
    ("lisa", {**LOOP, "train.accumulation_steps": 2}),
  ],
)
def test_steps_are_those_of_all_gradients(optimizer, changes):
  whole, losses = run(config_of(optimizer, **changes))
  blocks, others = run(
    config_of(optimizer, **changes, **{block_gradients.PATH: True})
  )
  np.testing.assert_allclose(losses, others, rtol=1e-6)
  assert losses[0] != losses[1]
  # Sums in another order, divided by roots of small second moments.
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
    whole.params,
    blocks.params,
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-5),
    whole.optimizer_state,
    blocks.optimizer_state,
  )


def branches(config):
  """Products in each branch of the gradient, and in a whole gradient."""
  one, initialize, batch, hyper = prepared(config)
  state = jax.eval_shape(initialize, hyper)
  jaxpr = jax.make_jaxpr(one)(state, batch, hyper)

  for eqn in jaxpr.jaxpr.eqns:
    if eqn.primitive.name == "cond":
      counts = [len([*products.of(b)]) for b in eqn.params["branches"]]
      if min(counts) > 0:
        return counts
  return [len([*products.of(jaxpr)])]


def test_a_branch_goes_back_no_further_than_its_block():
  """Of 7 kernels and 2 products of attention in a layer, and the head.

  Forward 9 per layer and 1. Back through the head 1, through a layer above
  the block 7 for kernels' inputs and 4 of attention, in the block 7 more of
  weights, and none of what the block's first kernels read but for its norms.
  """
  whole = branches(config_of("badam"))
  counts = branches(config_of("badam", **{block_gradients.PATH: True}))
  assert len(counts) == LAYERS
  (everything,) = whole
  assert counts == sorted(counts, reverse=True)
  assert max(counts) < everything
  # A layer more to go back through.
  assert counts[0] - counts[1] == counts[1] - counts[2] == 11


def products_of_a_step(num_layers):
  config = config_of(
    "badam",
    **LOOP,
    **{"model.num_layers": num_layers, block_gradients.PATH: True},
  )
  one, initialize, batch, hyper = prepared(config)
  state = jax.eval_shape(initialize, hyper)
  return len([*products.of(jax.make_jaxpr(one)(state, batch, hyper))])


def test_a_loop_is_one_program_whatever_the_depth():
  """Of 9 products in a layer's forward pass, and the head's.

  Forward 9, a still layer again and its inputs' 9 + 11, one that moves 9 + 18;
  the head forward and back.
  """
  assert products_of_a_step(2) == products_of_a_step(5) == 9 + 20 + 27 + 2


def trace(config):
  """Checks a config as a run does, and traces a step."""
  block_gradients.check(config)
  one, initialize, batch, hyper = prepared(config)
  jax.eval_shape(one, jax.eval_shape(initialize, hyper), batch, hyper)


@pytest.mark.parametrize(
  ("optimizer", "changes", "message"),
  [
    ("badam", {"optimizer.order": "greedy"}, "greedy"),
    (
      "badam",
      {**LOOP, "optimizer.blocks": ("layers/[01]/.*", ".*")},
      "a block of the optimizer has more than one layer",
    ),
    (
      "badam",
      {**LOOP, "optimizer.blocks": (".*attention.*", ".*")},
      "layers/0 is in more than one of the optimizer's blocks",
    ),
    ("badam", {"train.layer_decay": 0.5}, "layer_decay=0.5"),
    ("badam", {"train.gradient": "zeroth_order"}, "gradient='zeroth_order'"),
    ("badam", {"train.param_dtype": "bfloat16"}, "dtype='bfloat16' do not go"),
  ],
)
def test_refusals(optimizer, changes, message):
  changes[block_gradients.PATH] = True
  config = config_of(optimizer, **changes)
  with pytest.raises(errors.UserError, match=message):
    trace(config)


def test_other_optimizers_are_refused():
  config = support.tiny({block_gradients.PATH: True})
  with pytest.raises(errors.UserError, match="'adamw' moves all.*badam"):
    trace(config)


def test_a_stack_of_its_own_is_refused():
  """Its loop is the model's own, and makes the gradients of all layers."""
  params = {"layers": {"kernel": jnp.ones((LAYERS, 2, 2))}}
  tx = optim.badam(0.1, stacked=("layers/.*",))
  with pytest.raises(errors.UserError, match=r"stacked=\(\)"):
    block_gradients.upcoming(tx, "badam", params, tx.init(params))
