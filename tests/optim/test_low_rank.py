"""GaLore and Fira: the side, the span, the residual and its limiter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import optim
from normjax.optim import safe
from tests.support import normal

MAKERS = {"galore": optim.scale_by_galore, "fira": optim.scale_by_fira}
NAMES = pytest.mark.parametrize("name", MAKERS)


@NAMES
@pytest.mark.parametrize(
  ("shape", "moments"),
  [((6, 10), (1, 3, 10)), ((10, 6), (1, 10, 3)), ((8, 8), (1, 3, 8))],
)
def test_the_smaller_side_is_reduced(name, shape, moments):
  state = MAKERS[name](rank=3).init(jnp.zeros(shape))
  assert state.mu.shape == state.nu.shape == moments
  assert state.basis.shape == (1, 3, min(shape))


@NAMES
def test_rank_is_at_most_the_side(name):
  state = MAKERS[name](rank=128).init(jnp.zeros((3, 6, 4)))
  assert state.mu.shape == (3, 6, 4)
  assert state.basis.shape == (3, 4, 4)


def test_galore_moves_within_the_span():
  g = normal(6, 10)
  tx = optim.scale_by_galore(rank=2)
  step, state = tx.update(g, tx.init(g))
  assert np.linalg.matrix_rank(np.asarray(step), tol=1e-5) == 2
  left, _, _ = np.linalg.svd(g)
  # Sums of 6 terms, each with the error u of a unit vector's entry.
  np.testing.assert_allclose(left[:, 2:].T @ step, 0, atol=1e-5)
  inner = np.abs(np.asarray(state.basis[0]) @ left[:, :2])
  np.testing.assert_allclose(inner, np.eye(2), atol=1e-4)


@NAMES
def test_basis_is_made_at_multiples_of_the_gap(name):
  tx = MAKERS[name](rank=2, update_proj_gap=3)
  state = tx.init(normal(4, 6))
  update = jax.jit(tx.update)
  for step in range(7):
    before = state.basis
    _, state = update(normal(4, 6, seed=step), state)
    assert bool(np.any(before != state.basis)) == (step % 3 == 0)


@NAMES
def test_signs_come_next_to_the_old_vectors(name):
  """The sign is the old one's, whichever the SVD returns."""
  g = normal(4, 6)
  tx = MAKERS[name](rank=2, update_proj_gap=1)
  _, state = tx.update(g, tx.init(g))
  sign = jnp.array([1.0, -1.0])[:, None]
  flipped = state._replace(mu=sign * state.mu, basis=sign * state.basis)
  h = g + 0.1 * normal(4, 6, seed=1)
  expected, state = tx.update(h, state)
  actual, flipped = tx.update(h, flipped)
  np.testing.assert_allclose(flipped.basis, sign * state.basis, rtol=1e-6)
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


@NAMES
def test_one_svd_for_all_layers_of_a_shape(name):
  def count(num_layers):
    params = {str(n): {"kernel": normal(4, 6)} for n in range(num_layers)}
    tx = optim.make(name, learning_rate=0.1, rank=2)
    text = str(jax.make_jaxpr(tx.update)(params, tx.init(params), params))
    return text.count(" svd["), text.count(" cond[")

  assert count(5) == count(1) == (1, 1)


@pytest.mark.parametrize("residual", ["official", "orthogonal"])
def test_residual_of_fira(residual):
  """At the first step |a| is 1 up to eps: the columns' factor is known."""
  g = normal(6, 10)
  alpha, rank = 0.25, 2
  tx = optim.scale_by_fira(rank=rank, scale=alpha, residual=residual)
  step, state = tx.update(g, tx.init(g))
  x = np.asarray(g, np.float64)
  left = np.linalg.svd(x)[0][:, :rank]
  low = left.T @ x
  # (1 - b1) / sqrt(1 - b2), which the bias correction cancels.
  factor = np.sqrt(rank) / np.linalg.norm(low, axis=0)
  share = alpha if residual == "official" else 1.0
  outside = (x - share * left @ low) * factor
  expected = alpha * left @ np.sign(low) + outside
  # eps / (|g| sqrt(1 - b2)) for |g| > 0.03: 1e-3.
  np.testing.assert_allclose(step, expected, rtol=2e-3, atol=2e-3)
  correction = np.sqrt(1 - 0.999) / (1 - 0.9)
  np.testing.assert_allclose(
    state.norm, [np.linalg.norm(outside) / correction], rtol=2e-3
  )


def test_norm_of_the_residual_grows_by_a_percent():
  g = normal(6, 10)
  tx = optim.scale_by_fira(rank=2, residual="orthogonal")
  _, state = tx.update(g, tx.init(g))
  for growth in (1e3, 1e3, 1e-3):
    before = float(state.norm[0])
    # Beyond the span the gradient grows; the Adam of the span does not.
    basis = np.asarray(state.basis[0])
    within = basis.T @ (basis @ np.asarray(g))
    _, state = tx.update(within + growth * (g - within), state)
    after = float(state.norm[0])
    if growth > 1:
      np.testing.assert_allclose(after, 1.01 * before, rtol=1e-5)
    else:
      assert after < before


def test_a_first_gradient_of_zero_does_not_hold_the_residual_back():
  g = normal(6, 10)
  tx = optim.scale_by_fira(rank=2)
  step, state = tx.update(jnp.zeros_like(g), tx.init(g))
  assert not np.any(step)
  _, state = tx.update(g, state)
  assert float(state.norm[0]) > 1e-3


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_norm_is_safe(scale):
  x = normal(3, 5)
  expected = np.linalg.norm(np.asarray(x), axis=0, keepdims=True)
  actual = safe.norm(x * jnp.float32(scale), (0,)) / jnp.float32(scale)
  np.testing.assert_allclose(actual, expected, rtol=1e-6)
  assert not np.any(safe.norm(jnp.zeros((2, 3)), (0, 1)))
