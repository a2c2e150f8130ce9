"""APOLLO: the draws, the factors, the limiter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import optim
from normjax.optim import draws
from normjax.optim.limiter import limit_growth
from tests.support import normal


def test_draws_are_normal_of_variance_one():
  drawn = np.asarray(draws.normal("a", (2, 16, 400), 0))
  assert drawn.shape == (2, 16, 400)
  # 12800 draws: five standard errors of the mean and the variance.
  assert abs(drawn.mean()) < 5 / np.sqrt(12800)
  assert abs(drawn.var() - 1) < 5 * np.sqrt(2 / 12800)


def test_draws_depend_on_seed_path_and_period():
  shape = (1, 2, 3)
  drawn = [
    draws.normal(path, shape, period, seed=seed)
    for seed in (0, 1)
    for path in ("a", "b")
    for period in (0, 1)
  ]
  firsts = {float(x[0, 0, 0]) for x in drawn}
  assert len(firsts) == len(drawn)
  again = jax.jit(lambda n: draws.normal("a", shape, n))(1)
  np.testing.assert_array_equal(again, drawn[1])


def test_draws_do_not_depend_on_the_precision():
  with jax.enable_x64(True):
    wide = draws.normal("a", (1, 2, 3), 4)
  np.testing.assert_array_equal(wide, draws.normal("a", (1, 2, 3), 4))


def test_a_leaf_moves_alike_alone_and_beside_others():
  params = {"a": {"kernel": normal(4, 6)}, "b": {"kernel": normal(6, 4)}}
  tx = optim.scale_by_apollo(rank=2)
  together, _ = tx.update(params, tx.init(params))
  alone, _ = tx.update({"b": params["b"]}, tx.init({"b": params["b"]}))
  # The same operations, compiled apart.
  np.testing.assert_allclose(
    together["b"]["kernel"], alone["b"]["kernel"], rtol=1e-6
  )


def test_projection_is_drawn_at_multiples_of_the_gap():
  """With b1 = 0 and a constant gradient nothing else changes mu."""
  g = normal(4, 6)
  tx = optim.scale_by_apollo(b1=0.0, rank=2, update_proj_gap=3)
  state = tx.init(g)
  update = jax.jit(tx.update)
  for step in range(7):
    before = state.mu
    _, state = update(g, state)
    assert bool(np.any(before != state.mu)) == (step % 3 == 0)


@pytest.mark.parametrize(
  ("shape", "moments"),
  [((6, 10), (1, 3, 10)), ((10, 6), (1, 10, 3)), ((8, 8), (1, 3, 8))],
)
def test_state_is_low_rank(shape, moments):
  state = optim.scale_by_apollo(rank=3).init(jnp.zeros(shape))
  assert state.mu.shape == state.nu.shape == moments
  assert len(jax.tree.leaves(state)) == 4


@pytest.mark.parametrize(("shape", "axis"), [((6, 10), 0), ((10, 6), 1)])
def test_each_channel_keeps_its_direction(shape, axis):
  """At the first step |a| is 1 up to eps: the factor is known."""
  g = normal(*shape)
  tx = optim.scale_by_apollo(rank=2)
  step, _ = tx.update(g, tx.init(g))
  drawn = np.asarray(draws.normal("", (1, 2, 6), 0)[0]) / np.sqrt(2)
  low = drawn @ (np.asarray(g) if axis == 0 else np.asarray(g).T)
  factor = np.sqrt(2) / np.linalg.norm(low, axis=0)
  factor = factor if axis == 0 else factor[:, None]
  # eps / (|low| sqrt(1 - b2)) for |low| > 0.03: 1e-3.
  np.testing.assert_allclose(step, factor * g, rtol=2e-3)


def test_mini_has_one_factor():
  g = normal(6, 10)
  tx = optim.apollo_mini(1.0, dims=lambda _: optim.MatrixDims(0, 1))
  step, _ = tx.update(g, tx.init(g), g)
  ratio = np.asarray(step / g)
  np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-5)
  drawn = draws.normal("", (1, 1, 6), 0)[0]
  expected = -np.sqrt(128 * 10) / np.linalg.norm(drawn @ g)
  np.testing.assert_allclose(ratio[0, 0], expected, rtol=2e-3)


def test_scale_before_and_after_the_limiter():
  """The limiter is of degree 1, so that only the stored norm differs."""
  options = {"scale_type": "tensor", "scale": 128.0, "rank": 1}
  front = optim.scale_by_apollo(**options, scale_front=True)
  back = optim.scale_by_apollo(**options)
  g = normal(6, 10)
  front_state, back_state = front.init(g), back.init(g)
  for seed in range(4):
    g = normal(6, 10, seed=seed) * 10.0**seed
    actual, front_state = front.update(g, front_state)
    expected, back_state = back.update(g, back_state)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
  np.testing.assert_allclose(
    front_state.norm, np.sqrt(128) * back_state.norm, rtol=1e-5
  )


def test_limiter():
  x = jnp.stack([normal(3, 4), normal(3, 4), 1e-3 * normal(3, 4)])
  norms = np.linalg.norm(np.asarray(x), axis=(1, 2))
  previous = jnp.array([0.0, norms[1] / 10, 1.0])
  limited, after = limit_growth(x, previous)
  # A first update, one that grows too fast, one that shrinks.
  expected = [norms[0], 1.01 * norms[1] / 10, norms[2]]
  np.testing.assert_allclose(after, expected, rtol=1e-5)
  np.testing.assert_allclose(
    np.linalg.norm(np.asarray(limited), axis=(1, 2)), after, rtol=1e-5
  )
  assert not np.any(limit_growth(jnp.zeros((1, 2, 2)), jnp.zeros(1))[0])
