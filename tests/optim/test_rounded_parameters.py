"""Weights of 16 bits: rounded at random, or with what rounding has taken."""

import doctest
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from normjax import optim
from tests import support

ROUNDINGS = ("nearest", "stochastic", "kahan")


def bits(shape, seed=0):
  drawn = np.random.default_rng(seed).integers(0, 2**16, shape)
  return jnp.asarray(drawn, jnp.uint16)


def test_stochastic_rounding_is_right_on_average():
  """Of both signs, over 1e5 draws: within 4 standard errors of the sum."""
  w = jnp.array([1.0, -1.0, 0.7, 3.0, -0.001], jnp.bfloat16)
  u = jnp.array([1e-3, -1e-3, 1e-4, -0.01, 3e-7])
  moved = jax.vmap(lambda b: optim.add_stochastically(w, u, b))(
    bits((100_000, 5))
  )
  moved = np.asarray(moved, np.float64)
  exact = np.float64(w) + np.float64(u)
  error = moved.mean(axis=0) - exact
  # The sum itself is rounded to float32.
  slack = np.abs(exact) * 2**-24
  assert (np.abs(error) <= 4 * moved.std(axis=0) / 1e5**0.5 + slack).all()
  for column, value in zip(moved.T, exact, strict=True):
    low, high = np.unique(column)
    assert low < value < high


def test_what_bfloat16_represents_stays():
  w = support.normal(64).astype(jnp.bfloat16)
  for seed in range(3):
    moved = optim.add_stochastically(w, jnp.zeros(64), bits(64, seed))
    np.testing.assert_array_equal(moved, w)


def test_signs_are_alike():
  w, u, b = (
    support.normal(64).astype(jnp.bfloat16),
    support.normal(64),
    bits(64),
  )
  np.testing.assert_array_equal(
    optim.add_stochastically(-w, -u, b), -optim.add_stochastically(w, u, b)
  )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_so(bad):
  """No bits of a NaN are moved: another payload might be infinity."""
  w = jnp.ones(4, jnp.bfloat16)
  all_ones = jnp.full(4, 0xFFFF, jnp.uint16)
  moved = optim.add_stochastically(w, jnp.full(4, bad), all_ones)
  np.testing.assert_array_equal(np.float32(moved), bad)
  moved, rest = optim.add_compensated(w, jnp.full(4, bad), jnp.zeros_like(w))
  np.testing.assert_array_equal(np.float32(moved), bad)
  np.testing.assert_array_equal(np.float32(rest), 0)


def run(rounding, steps=1000, size=1000, seed=0):
  """A weight of 1 and that many updates of -1e-4."""
  tx = optim.rounded_parameters(optax.sgd(1e-4), rounding, seed=seed)

  @jax.jit
  def final(w):
    def step(carry, _):
      w, state = carry
      updates, state = tx.update(jnp.ones_like(w), state, w)
      return (optax.apply_updates(w, updates), state), None

    return jax.lax.scan(step, (w, tx.init(w)), None, length=steps)[0]

  w, state = final(jnp.ones(size, jnp.bfloat16))
  assert w.dtype == jnp.bfloat16
  return np.asarray(w, np.float64), state


def test_stuck_weight():
  """To the nearest it does not move; else it comes to 0.9, within 1 %."""
  assert (run("nearest")[0] == 1).all()
  drawn, _ = run("stochastic")
  # A walk in steps of up to 2^-8 of 0.9: the mean of 1000 of them.
  assert drawn.mean() == pytest.approx(0.9, abs=4 * drawn.std() / 1000**0.5)
  assert 0.01 < drawn.std() < 0.03
  summed, state = run("kahan")
  np.testing.assert_allclose(summed, 0.9, rtol=0.01)
  rest = np.asarray(state.compensation, np.float64)
  np.testing.assert_allclose(summed + rest, 0.9, rtol=1e-3)
  again, _ = run("stochastic")
  np.testing.assert_array_equal(again, drawn)
  assert (run("stochastic", seed=1)[0] != drawn).any()


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_a_whole_step_is_update_and_apply_updates(rounding):
  """Bit for bit, compiled or not, whatever the leaves are."""
  params = {
    "kernel": support.normal(8, 16).astype(jnp.bfloat16),
    "half": support.normal(8).astype(jnp.float16),
    "scale": support.normal(8),
  }
  tx = optim.rounded_parameters(optim.adamw(1e-2), rounding)
  gradients = jax.tree.map(lambda w: (w**2 - 0.1).astype(w.dtype), params)

  def by_update(params, state):
    updates, state = tx.update(gradients, state, params)
    assert {u.dtype for u in jax.tree.leaves(updates)} == {jnp.dtype("float32")}
    return optax.apply_updates(params, updates), state

  def whole(params, state):
    return optim.apply(tx, gradients, state, params)

  found = []
  for function in (by_update, jax.jit(by_update), jax.jit(whole)):
    moved, state = params, tx.init(params)
    for _ in range(2):
      moved, state = function(moved, state)
    found.append((moved, state))
  plain, compiled, applied = found
  jax.tree.map(np.testing.assert_array_equal, compiled, applied)
  # Adam's arithmetic, not the rounding, may differ between compilations.
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(
      np.float32(a), np.float32(b), rtol=2**-7
    ),
    plain,
    compiled,
  )
  for a, b in zip(jax.tree.leaves(moved), jax.tree.leaves(params), strict=True):
    assert a.dtype == b.dtype


def test_kahan_is_the_same_compiled():
  """XLA leaves out neither the rounding nor w - w'."""
  w, u = support.normal(64).astype(jnp.bfloat16), 1e-3 * support.normal(64)
  c = (1e-3 * support.normal(64, seed=1)).astype(jnp.bfloat16)
  jax.tree.map(
    np.testing.assert_array_equal,
    optim.add_compensated(w, u, c),
    jax.jit(optim.add_compensated)(w, u, c),
  )


def test_state_bytes():
  """Kahan's sum is 2 bytes a parameter; moments are float32 by default."""
  w = jnp.zeros((16, 64), jnp.bfloat16)
  for rounding, more in (("nearest", 0), ("stochastic", 0), ("kahan", 2)):
    tx = optim.rounded_parameters(optim.adamw(1e-3), rounding)
    held = optim.state_bytes(jax.eval_shape(tx.init, w))
    assert 0 <= held - (8 + more) * w.size <= 8
  tx = optim.rounded_parameters(
    optim.adamw(1e-3, mu_dtype="bfloat16", nu_dtype="bfloat16"), "kahan"
  )
  # With the weight and a gradient of 16 bits each: 10 bytes; 12 with a sum.
  held = optim.state_bytes(jax.eval_shape(tx.init, w))
  assert 0 <= held - 6 * w.size <= 8


@pytest.mark.parametrize("rounding", ["stochastic", "kahan"])
def test_goes_on_bit_for_bit_from_a_checkpoint(rounding, tmp_path):
  tx = optim.rounded_parameters(optax.sgd(1e-3), rounding)
  step = jax.jit(lambda w, s: optim.apply(tx, jnp.ones_like(w), s, w))
  w = support.normal(64).astype(jnp.bfloat16)
  kept = step(*step(w, tx.init(w)))
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(tmp_path / "state", kept)
    checkpointer.wait_until_finished()
    restored = checkpointer.restore(
      tmp_path / "state", jax.eval_shape(lambda: kept)
    )
  jax.tree.map(np.testing.assert_array_equal, step(*restored), step(*kept))


def test_leaves_and_steps_draw_apart():
  """The same bits for all would move all that are alike together."""
  tx = optim.rounded_parameters(optax.sgd(1e-3))
  params = {name: jnp.ones(256, jnp.bfloat16) for name in "ab"}
  state = tx.init(params)
  first, state = optim.apply(tx, params, state, params)
  second, _ = optim.apply(tx, params, state, params)
  assert (first["a"] != first["b"]).any()
  assert (first["a"] != second["a"]).any()


def test_bad_options():
  with pytest.raises(ValueError, match=r"rounded_parameters: rounding='up'; "):
    optim.rounded_parameters(optax.sgd(0.1), "up")
  with pytest.raises(TypeError, match="rounded_parameters: inner=0.1"):
    optim.rounded_parameters(0.1)
  tx = optim.rounded_parameters(optax.sgd(0.1))
  w = jnp.ones(4, jnp.bfloat16)
  with pytest.raises(ValueError, match="needs params"):
    tx.update(w, tx.init(w))


def test_docstring_example():
  module = sys.modules[optim.rounded_parameters.__module__]
  finder = doctest.DocTestFinder(recurse=False)
  (example,) = finder.find(optim.rounded_parameters, module=module, globs={})
  assert doctest.DocTestRunner().run(example).failed == 0


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_a_gradient_that_is_not_finite_can_be_left_out(rounding):
  """What compares updates with gradients goes around the inner optimizer."""
  inner = optax.apply_if_finite(optax.sgd(0.5), max_consecutive_errors=3)
  tx = optim.rounded_parameters(inner, rounding)
  w = jnp.ones((4, 4), jnp.bfloat16)
  state = tx.init(w)
  for gradient, want in ((jnp.nan, 1.0), (1.0, 0.5)):
    updates, state = tx.update(jnp.full_like(w, gradient), state, w)
    w = optax.apply_updates(w, updates)
    np.testing.assert_array_equal(np.asarray(w, np.float32), want)
