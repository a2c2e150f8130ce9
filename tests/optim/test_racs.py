"""RACS: the fixed point, its scale, what has no gradient, the limiter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import optim
from normjax.optim.racs import two_sided_scales
from tests.support import normal


def test_scales_of_a_rank_one_square_are_exact():
  rows, columns = jnp.geomspace(0.1, 10, 6), jnp.geomspace(3, 0.2, 4)
  g = jnp.sqrt(rows[:, None] * columns[None]) * jnp.sign(normal(6, 4))
  s, q = two_sided_scales(g[None], 1)
  np.testing.assert_allclose(s[0, :, None] * q[0], np.square(g), rtol=1e-5)
  # The size is in s: q is fitted to ones.
  np.testing.assert_allclose(
    s[0], rows * np.mean(np.asarray(columns)), rtol=1e-5
  )


@pytest.mark.parametrize("shape", [(1, 6, 10), (2, 10, 6)])
def test_scales_come_near_the_leading_singular_vectors(shape):
  g = normal(*shape)
  s, q = two_sided_scales(g, 60)
  for square, s_i, q_i in zip(np.square(g), s, q, strict=True):
    left, values, right = np.linalg.svd(square)
    np.testing.assert_allclose(
      np.outer(s_i, q_i), values[0] * np.outer(left[:, 0], right[0]), rtol=1e-4
    )
  # The second singular value of a positive matrix is small.
  five, _ = two_sided_scales(g, 5)
  np.testing.assert_allclose(five, s, rtol=0.02)


@pytest.mark.parametrize("scale", [1e-15, 1e15])
def test_scales_follow_the_square(scale):
  g = normal(1, 6, 10)
  s, q = two_sided_scales(g)
  scaled_s, scaled_q = two_sided_scales(g * jnp.float32(scale))
  np.testing.assert_allclose(scaled_s / scale**2, s, rtol=1e-5)
  np.testing.assert_allclose(scaled_q, q, rtol=1e-5)


def test_first_step_has_no_bias_correction():
  g = normal(6, 10)
  tx = optim.scale_by_racs(beta=0.9)
  step, _ = tx.update(g, tx.init(g))
  s, q = two_sided_scales(g[None])
  expected = 10 * g / np.sqrt(np.outer(s[0], q[0]))
  np.testing.assert_allclose(step, expected, rtol=1e-5)


def test_what_has_no_gradient_does_not_move():
  g = normal(6, 10).at[:, 3].set(0).at[2].set(0)
  tx = optim.scale_by_racs()
  step, state = tx.update(g, tx.init(g))
  assert np.isfinite(step).all()
  assert not np.any(step[:, 3])
  assert not np.any(step[2])
  assert float(state.q[0, 3]) == float(state.s[0, 2]) == 0


def test_growth_is_limited():
  g = normal(6, 10)
  tx = optim.scale_by_racs(gamma=1.5)
  update = jax.jit(tx.update)
  state = tx.init(g)
  for _ in range(40):
    _, state = update(g, state)
  settled = float(state.norm[0])
  # The average takes a tenth of the square: the step would be 10 / sqrt(10).
  step, grown = update(100 * g, state)
  np.testing.assert_allclose(np.linalg.norm(step), 1.5 * settled, rtol=1e-5)
  np.testing.assert_allclose(grown.norm, [1.5 * settled], rtol=1e-5)
  step, _ = update(0.1 * g, state)
  assert np.linalg.norm(step) < settled


def test_state_is_two_vectors_and_a_norm():
  params = {"conv": {"kernel": jnp.zeros((3, 2, 4, 5))}}
  params["layers"] = {"kernel": jnp.zeros((3, 6, 10))}
  state = optim.scale_by_racs().init(params)
  shapes = [leaf.shape for leaf in jax.tree.leaves(state)]
  assert shapes == [(1, 24), (3, 6), (1, 5), (3, 10), (1,), (3,)]


def test_one_fixed_point_for_all_layers_of_a_shape():
  def loops(num_layers):
    params = {str(n): {"kernel": normal(4, 6)} for n in range(num_layers)}
    tx = optim.racs(0.1)
    text = str(jax.make_jaxpr(tx.update)(params, tx.init(params), params))
    return text.count(" scan[") + text.count(" while[")

  assert loops(5) == loops(1) == 1
