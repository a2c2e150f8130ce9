"""`optim.apply`: the whole step of an optimizer."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kernels_pallas import dispatch, proved
from normjax import errors, optim
from normjax.optim import in_place
from tests import products


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


SCHEDULE = optax.linear_schedule(1, 0, 9)


@pytest.mark.parametrize(
  ("name", "options"),
  [
    (
      "adam_8bit",
      {"weight_decay": 0.1, "mask": "default", "b1": jnp.float32(0.9)},
    ),
    ("adam_8bit", {"block_layout": "flat", "learning_rate": SCHEDULE}),
    (
      "adam_8bit",
      {"dtype": jnp.bfloat16, "block_size": 64, "sign_repair": False},
    ),
    ("lion_8bit", {"weight_decay": 0.1, "mask": "default"}),
    ("lion_8bit", {"block_layout": "flat", "learning_rate": SCHEDULE}),
    ("momentum_8bit", {"weight_decay": 0.1, "mask": "default"}),
    ("momentum_8bit", {"learning_rate": SCHEDULE, "dtype": jnp.bfloat16}),
  ],
)
def test_it_is_the_update_and_the_sum(name, options):
  """Bit for bit: the kernels' reference is the optimizer's own arithmetic."""
  options = {"learning_rate": 0.1, **options}
  params, gradients = leaves(options.pop("dtype", jnp.float32))
  tx = optim.make(name, **options)

  by_update = jax.jit(lambda *given: in_place.by_update(tx, *given)[:3])
  by_apply = jax.jit(lambda *given: tx.apply(*given)[:3])
  expected = actual = params, tx.init(params)
  for _ in range(2):
    *expected, norm = by_update(gradients, *expected[::-1])
    *actual, update_norm = by_apply(gradients, *actual[::-1])
    jax.tree.map(np.testing.assert_array_equal, actual, expected)
    if params["bias"].dtype == jnp.float32:
      np.testing.assert_allclose(update_norm, norm, rtol=1e-5)


@pytest.mark.parametrize("name", ["adam_8bit", "lion_8bit", "momentum_8bit"])
def test_training_takes_a_kernel_that_is_proved(name, monkeypatch):
  """Unless the updates are asked for; so its step scales the gradients."""
  tx = optim.make(name, learning_rate=0.1)
  w = jax.ShapeDtypeStruct((32, 512), jnp.float32)
  state = jax.eval_shape(tx.init, w)

  def calls_kernel(keep_updates=False):
    with products.compiled_for("gpu"):
      jaxpr = jax.make_jaxpr(
        lambda *given: in_place.in_training(
          tx, *given, keep_updates=keep_updates
        )
      )(w, state, w, jax.ShapeDtypeStruct((), jnp.float32))
    return f"{name}_update" in str(jaxpr)

  assert not calls_kernel()
  monkeypatch.setattr(proved, "missing", lambda *_: None)
  assert calls_kernel()
  assert not calls_kernel(keep_updates=True)


def test_a_step_scales_the_gradients():
  """As multiplying them before it does."""
  params, gradients = leaves(jnp.float32)
  tx = optim.momentum_8bit(0.1)
  given = gradients, tx.init(params), params
  scaled = tx.apply(*given, scale=0.5)
  expected = in_place.in_training(tx, *given, 0.5, keep_updates=False)
  assert expected.updates is not None  # On a CPU: that is its own path.
  jax.tree.map(np.testing.assert_array_equal, scaled.params, expected.params)


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
