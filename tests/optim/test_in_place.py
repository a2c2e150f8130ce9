"""`optim.apply`: the whole step of an optimizer."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kernels_pallas import dispatch
from normjax import errors, optim


def leaves(dtype):
  """8-bit and float32 moments; a short block, and no good entries."""
  keys = iter(jax.random.split(jax.random.key(0), 8))
  params = {
    "kernel": jax.random.normal(next(keys), (20, 300), dtype),
    "bias": jax.random.normal(next(keys), (300,), dtype),
    "embedding": jax.random.normal(next(keys), (40, 256), dtype),
  }
  gradients = jax.tree.map(
    lambda w: jax.random.normal(next(keys), w.shape, dtype), params
  )
  bad = jnp.array([jnp.nan, jnp.inf, 1e30, 0], dtype)
  gradients["kernel"] = gradients["kernel"].at[0, :4].set(bad)
  return params, gradients


@pytest.mark.parametrize(
  "options",
  [
    {"weight_decay": 0.1, "mask": "default", "b1": jnp.float32(0.9)},
    {"block_layout": "flat", "learning_rate": optax.linear_schedule(1, 0, 9)},
    {"dtype": jnp.bfloat16, "block_size": 64, "sign_repair": False},
  ],
  ids=["decay", "flat", "bfloat16"],
)
def test_it_is_the_update_and_the_sum(options):
  """Bit for bit: the kernels' reference is the optimizer's own arithmetic."""
  options = {"learning_rate": 0.1, **options}
  params, gradients = leaves(options.pop("dtype", jnp.float32))
  tx = optim.adam_8bit(**options)

  @jax.jit
  def by_update(gradients, state, params):
    updates, state = tx.update(gradients, state, params)
    return optax.apply_updates(params, updates), state

  by_apply = jax.jit(lambda *given: optim.apply(tx, *given))
  expected = actual = params, tx.init(params)
  for _ in range(2):
    expected = by_update(gradients, *expected[::-1])
    actual = by_apply(gradients, *actual[::-1])
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def test_other_optimizers():
  params, gradients = leaves(jnp.float32)
  tx = optax.sgd(0.1)
  moved, _ = optim.apply(tx, gradients, tx.init(params), params)
  np.testing.assert_allclose(
    moved["bias"], params["bias"] - 0.1 * gradients["bias"], rtol=1e-6
  )


def test_a_transform_that_was_changed_is_taken_by_its_update():
  """As optax's own, it can be copied, and one of its functions replaced."""
  params = jnp.ones((2, 3))
  tx = optim.adam_8bit(0.1)
  state = tx.init(params)
  kept = optim.apply(copy.deepcopy(tx), params, state, params)[0]
  np.testing.assert_allclose(kept, 0.9, rtol=1e-6)
  still = tx._replace(update=lambda g, state, _=None: (0 * g, state))
  np.testing.assert_array_equal(
    optim.apply(still, params, state, params)[0], params
  )


def test_float64_is_computed_in_float64():
  with jax.enable_x64(True):
    w = jnp.linspace(0.1, 1, 8, dtype=jnp.float64)
    tx = optim.adam_8bit(0.1, b2=0.99)
    moved, _ = optim.apply(tx, w, tx.init(w), w)
    updates, _ = tx.update(w, tx.init(w), w)
    np.testing.assert_array_equal(moved, w + updates)


def test_no_parameters():
  tx = optim.adam_8bit(0.1)
  w = jnp.ones(3)
  with pytest.raises(ValueError, match="optim.apply needs params"):
    optim.apply(tx, w, tx.init(w), None)


def test_a_kernel_that_cannot_run_says_why():
  params, gradients = leaves(jnp.float32)
  tx = optim.adam_8bit(0.1)
  state = tx.init(params)
  with pytest.raises(
    dispatch.UnsupportedError, match="mosaic_gpu: .*; pallas_tpu: needs a TPU"
  ):
    optim.apply(tx, gradients, state, params, impl=("mosaic_gpu", "pallas_tpu"))


def test_an_option_that_would_do_nothing():
  """Neither of a config, whose training takes updates, nor of other steps."""
  with pytest.raises(errors.UserError, match="impl"):
    optim.make("adam_8bit", learning_rate=0.1, impl="mosaic_gpu")
  w = jnp.ones(3)
  tx = optax.sgd(0.1)
  with pytest.raises(errors.UserError, match="'xla'.* has no kernel"):
    optim.apply(tx, w, tx.init(w), w, impl="xla")
  tx = optim.adam_8bit(0.1)
  with pytest.raises(errors.UserError, match="impl.*'cuda'.*mosaic_gpu"):
    optim.apply(tx, w, tx.init(w), w, impl="cuda")
