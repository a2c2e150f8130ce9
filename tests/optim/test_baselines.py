"""What the aliases over optax keep of it, and what they change."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from normjax import optim
from tests.optim import references_baselines


def normal(*shape, seed=0, dtype="float32"):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def follow(tx, w, gradients):
  @jax.jit
  def step(carry, g):
    w, state = carry
    updates, state = tx.update(g, state, w)
    return (optax.apply_updates(w, updates), state), None

  (w, state), _ = jax.lax.scan(step, (w, tx.init(w)), gradients)
  return w, state


@pytest.mark.parametrize(
  ("ours", "theirs"),
  [
    (
      optim.lion(0.1, weight_decay=0.1, mask=None),
      optax.lion(0.1, weight_decay=0.1),
    ),
    (
      optim.lamb(0.1, weight_decay=0.1, mask=None),
      optax.lamb(0.1, weight_decay=0.1),
    ),
    (optim.sgd(0.1), optax.sgd(0.1, 0.9)),
    (
      optim.sgd(0.1, nesterov=True, weight_decay=0.1),
      optax.chain(
        optax.add_decayed_weights(0.1), optax.sgd(0.1, 0.9, nesterov=True)
      ),
    ),
    (optim.adafactor(0.1), optax.adafactor(0.1)),
    (
      optim.adafactor(0.1, momentum=0.9, min_dim_size_to_factor=2),
      optax.adafactor(0.1, momentum=0.9, min_dim_size_to_factor=2),
    ),
  ],
  ids=[
    "lion",
    "lamb",
    "sgd",
    "sgd-nesterov-coupled",
    "adafactor",
    "adafactor-factored",
  ],
)
def test_equals_optax_where_it_should(ours, theirs):
  w, gradients = normal(6, 4), normal(10, 6, 4, seed=1)
  # Ten steps of 0.1 in a few norms of 24 terms: 10 * 0.1 * 30 u.
  np.testing.assert_allclose(
    follow(ours, w, gradients)[0],
    follow(theirs, w, gradients)[0],
    atol=2e-6,
    rtol=2e-6,
  )


def test_lion_moves_every_entry_by_the_rate():
  g = jnp.array([1e-30, -1e30, 0.0, 3.0])
  tx = optim.lion(0.1)
  updates, _ = tx.update(g, tx.init(g), g)
  np.testing.assert_allclose(updates, [-0.1, 0.1, 0.0, -0.1], rtol=1e-6)


def test_sgd_s_coupled_decay_is_ten_times_a_decoupled_one():
  """With momentum 0.9 and without gradients, after the first steps."""
  w = jnp.ones(3)
  shrunk = {}
  for decoupled in (False, True):
    tx = optim.sgd(1e-4, weight_decay=1.0, decoupled=decoupled)
    w_100, _ = follow(tx, w, jnp.zeros((100, 3)))
    w_200, _ = follow(tx, w, jnp.zeros((200, 3)))
    shrunk[decoupled] = np.log(np.float64(w_100 / w_200))
  # 1 / (1 - 0.9), but for 1e-4 * 1 / (1 - 0.9)^2 = 1e-2 of drift within the
  # memory of the momentum, and 0.9^100 of its start.
  np.testing.assert_allclose(shrunk[False] / shrunk[True], 10.0, rtol=0.02)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_lamb_s_step_is_as_long_as_the_weights(scale):
  w = normal(6, 4) * jnp.float32(scale)
  tx = optim.lamb(0.1, weight_decay=0.0)
  updates, _ = tx.update(normal(6, 4, seed=1), tx.init(w), w)
  ratio = np.linalg.norm(np.float64(updates)) / np.linalg.norm(np.float64(w))
  # Two norms of 24 terms.
  np.testing.assert_allclose(ratio, 0.1, rtol=30 * 2.0**-24)


def test_lamb_at_zero_weights_is_adam():
  w, g = jnp.zeros(4), normal(4)
  tx, adam = optim.lamb(0.1), optax.adam(0.1, eps=1e-6)
  actual, _ = tx.update(g, tx.init(w), w)
  expected, _ = adam.update(g, adam.init(w), w)
  np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_adafactor_s_decay_is_times_the_rate():
  w = normal(4, 3)
  zero = jnp.zeros_like(w)
  tx = optim.adafactor(0.01, weight_decay=0.1)
  updates, _ = tx.update(zero, tx.init(w), w)
  np.testing.assert_allclose(updates, -0.001 * w, rtol=1e-6)
  theirs = optax.adafactor(0.01, weight_decay_rate=0.1)
  updates, _ = theirs.update(zero, theirs.init(w), w)
  np.testing.assert_allclose(updates, -0.1 * w, rtol=1e-6)


@pytest.mark.parametrize(
  ("shape", "axes"),
  [((6, 10), (0, 1)), ((10, 6), (0, 1)), ((3, 2, 6, 5), (2, 3))],
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_adafactor_factors_the_largest_axes(shape, axes, dtype):
  rng = np.random.default_rng(0)
  w, gradients = rng.normal(size=shape), rng.normal(size=(12, *shape))
  expected = references_baselines.adafactor(
    "matrix",
    w,
    lambda t, _: gradients[t - 1],
    12,
    learning_rate=0.01,
    factored_axes=axes,
  )
  with jax.enable_x64(dtype == "float64"):
    tx = optim.adafactor(0.01, min_dim_size_to_factor=5)
    actual, state = follow(
      tx, jnp.asarray(w, dtype), jnp.asarray(gradients, dtype)
    )
  # Twelve steps of 0.01 |w| with 60 roundings, and the sums w + u.
  u = np.finfo(dtype).eps / 2
  tolerance = 12 * (0.01 * 60 + 4) * u
  np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)
  itemsize = np.dtype(dtype).itemsize
  batch = int(np.prod(shape)) // (shape[axes[0]] * shape[axes[1]])
  entries = batch * (shape[axes[0]] + shape[axes[1]]) + 1
  # Two counters, and a placeholder for the whole second moment.
  assert optim.state_bytes(state) <= itemsize * entries + 8


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_factored_extremes_are_finite(scale):
  g = normal(6, 8)
  w = normal(6, 8)
  tx = optim.adafactor(0.1, min_dim_size_to_factor=2)
  extremes = [
    g * scale,
    g.at[0].set(0).at[:, 0].set(0) * scale,
    g.at[0].mul(scale),
    g.at[0].mul(scale).at[1].set(0).at[:, 1].set(0),
    g.at[0].mul(1e-30).at[1].mul(1e30),
  ]
  for extreme in extremes:
    updates, state = tx.update(extreme, tx.init(w), w)
    assert np.isfinite(updates).all()
    assert np.isfinite(tx.update(g, state, w)[0]).all()


def test_nan_is_seen():
  g = normal(6, 8).at[0, 0].set(jnp.nan)
  for name in ("lion", "lamb", "sgd", "adafactor"):
    tx = optim.make(name, learning_rate=0.1)
    updates, _ = tx.update(g, tx.init(g), jnp.ones_like(g))
    assert np.isnan(updates[0, 0])
