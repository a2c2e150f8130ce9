"""Conda's basis: losslessness, when it is made, and what does not matter."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from normjax import optim
from normjax.optim import projection
from tests.optim import references_projected
from tests.support import normal

SHAPES = [(6, 10), (10, 6), (8, 8)]


@pytest.mark.parametrize("shape", SHAPES)
def test_projection_loses_nothing_and_keeps_the_shape(shape):
  x = normal(1, *shape)
  basis = projection.singular_vectors(x)
  y = projection.project(x, basis)
  assert y.shape == x.shape
  # Two products of sums of 10 terms: 20 u times the largest norm, below 10.
  np.testing.assert_allclose(
    projection.project_back(y, basis), x, atol=20 * 6e-8 * 10
  )
  # The rotated matrix is S V^T: the squares of its rows sum to s^2, which
  # descend.
  side = 2 if shape[0] <= shape[1] else 1
  size = np.sqrt((np.asarray(y)[0] ** 2).sum(axis=side - 1))
  expected = np.linalg.svd(x[0], compute_uv=False)
  np.testing.assert_allclose(size, expected, rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_direction_without_memory_is_a_sign(shape, scale):
  """b1 = b2 = 0, eps -> 0: back(sign(project(g))), whose RMS is the scale."""
  g = normal(*shape)
  tx = optim.scale_by_conda(0.0, 0.0, 1e-30, scale=scale)
  actual, _ = tx.update(g, tx.init(g))
  torch = np.asarray(g, np.float64).T
  tall = torch.shape[0] >= torch.shape[1]
  ortho = references_projected.basis(torch)
  sign = np.sign(references_projected.onto(torch, ortho, tall))
  expected = scale * references_projected.back(sign, ortho, tall).T
  # 10 u times the condition of the basis, here below 100.
  np.testing.assert_allclose(actual, expected, atol=10 * 6e-8 * 100)
  np.testing.assert_allclose(np.sqrt(np.mean(actual**2)), scale, rtol=1e-5)


def test_a_square_kernel_rotates_its_inputs():
  """PyTorch's test rows >= columns, on the kernel's transpose."""
  g = normal(8, 8)
  tx = optim.scale_by_conda()
  _, state = tx.update(g, tx.init(g))
  in_basis = np.abs(np.asarray(state.basis[0] @ g))
  left, singular, _ = np.linalg.svd(np.asarray(g, np.float64))
  expected = np.abs(left.T @ np.asarray(g, np.float64))
  np.testing.assert_allclose(in_basis, expected, atol=1e-4 * singular[0])


def test_basis_is_made_at_multiples_of_the_gap():
  tx = optim.scale_by_conda(update_proj_gap=3)
  w = normal(4, 6)
  state = tx.init(w)
  update = jax.jit(tx.update)
  changed = []
  for step in range(8):
    before = state.basis
    _, state = update(normal(4, 6, seed=step), state)
    changed.append(bool(np.any(before != state.basis)))
  assert changed == [n % 3 == 0 for n in range(8)]


def test_basis_is_that_of_the_momentum_the_step_has_made():
  tx = optim.scale_by_conda(b1=0.5, update_proj_gap=1)
  g, h = normal(4, 6), normal(4, 6, seed=1)
  state = tx.init(g)
  for gradient in (g, h):
    _, state = tx.update(gradient, state)
  left, _, _ = np.linalg.svd(0.25 * g + 0.5 * h)
  inner = np.abs(np.asarray(state.basis[0]) @ left)
  np.testing.assert_allclose(inner, np.eye(4), atol=1e-4)


def test_signs_of_the_basis_do_not_matter():
  g, h = normal(4, 6), normal(4, 6, seed=1)
  tx = optim.scale_by_conda()
  _, state = tx.update(g, tx.init(g))
  sign = jnp.array([1.0, -1.0, 1.0, -1.0])[:, None]
  # The moment is held in the basis; its square has no sign.
  flipped = state._replace(mu=sign * state.mu, basis=sign * state.basis)
  expected, _ = tx.update(h, state)
  actual, _ = tx.update(h, flipped)
  np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 10), (10, 6)])
def test_second_moment_is_rerotated_on_request(shape):
  """A new basis of the same momentum, permuted and flipped: the same v."""
  g = normal(*shape)
  state = {}
  for rotate in (False, True):
    tx = optim.scale_by_conda(
      0.0, 0.5, update_proj_gap=2, rerotate_second_moment=rotate
    )
    _, first = tx.update(g, tx.init(g))
    axis = 0 if shape[0] <= shape[1] else 1
    shuffled = first._replace(
      count=jnp.int32(2),
      mu=jnp.flip(first.mu, axis),
      nu=jnp.flip(first.nu, axis),
      basis=jnp.flip(first.basis, 1),
    )
    _, state[rotate] = tx.update(0 * g + g, shuffled)
    kept = first.nu if rotate else jnp.flip(first.nu, axis)
    # v = v / 2 + (B g)^2 / 2, and (B g)^2 = 2 first.nu.
    np.testing.assert_allclose(
      state[rotate].nu, 0.5 * kept + first.nu, rtol=1e-3, atol=1e-6
    )


def test_rerotation_keeps_the_sum_of_the_second_moment():
  """(C * C) is doubly stochastic."""
  gradients = [normal(4, 6, seed=seed) for seed in range(3)]
  totals = []
  for rotate in (False, True):
    tx = optim.scale_by_conda(update_proj_gap=1, rerotate_second_moment=rotate)
    state = tx.init(gradients[0])
    for g in gradients:
      _, state = tx.update(g, state)
    assert (np.asarray(state.nu) >= 0).all()
    totals.append(np.asarray(state.nu).sum(axis=0))
  np.testing.assert_allclose(*totals, rtol=1e-5)


def test_decay_acts_on_the_moved_weight_and_ignores_the_scale():
  w, g = normal(4, 6), normal(4, 6, seed=1)
  ends = []
  for decay in (0.0, 0.5):
    tx = optim.conda(0.1, scale=0.25, weight_decay=decay)
    updates, _ = tx.update(g, tx.init(w), w)
    ends.append(optax.apply_updates(w, updates))
  np.testing.assert_allclose(ends[1], (1 - 0.1 * 0.5) * ends[0], rtol=1e-5)


def test_other_leaves_are_adam_at_the_same_rate_without_scale():
  params = {"kernel": normal(4, 6), "bias": normal(6)}
  tx = optim.conda(0.1, scale=0.25)
  updates, _ = tx.update(params, tx.init(params), params)
  # The first step of Adam is the rate; eps over |g| sqrt(1 - b2) is 3e-6.
  np.testing.assert_allclose(np.abs(updates["bias"]), 0.1, rtol=1e-4)
  size = np.sqrt(np.mean(np.square(updates["kernel"])))
  np.testing.assert_allclose(size, 0.025, rtol=1e-4)


def test_zero_momentum_then_a_gradient():
  """The basis of nothing is a unit basis; the steps stay finite."""
  w = normal(4, 6)
  tx = optim.conda(0.1)
  updates, state = tx.update(jnp.zeros_like(w), tx.init(w), w)
  assert not np.any(updates)
  updates, _ = tx.update(w, state, w)
  assert np.isfinite(updates).all()
  assert np.any(updates)


def test_one_svd_for_all_layers_of_a_shape():
  def count(num_layers, primitive):
    params = {str(n): {"kernel": normal(4, 6)} for n in range(num_layers)}
    tx = optim.conda(0.1)
    text = str(jax.make_jaxpr(tx.update)(params, tx.init(params), params))
    return text.count(primitive)

  assert count(5, " svd[") == count(1, " svd[") == 1
  assert count(5, " cond[") == count(1, " cond[") == 1


def test_state_is_two_moments_and_a_small_basis():
  params = {"kernel": jnp.zeros((48, 16))}
  state = optim.conda(0.1).init(params)
  counts = sum(leaf.nbytes for leaf in jax.tree.leaves(state) if not leaf.ndim)
  expected = 4 * (2 * 48 * 16 + 16 * 16)
  assert optim.state_bytes(state) - counts == expected


def test_stacked_layers_are_matrices_apart():
  w = normal(3, 4, 6)
  tx = optim.scale_by_conda(update_proj_gap=2)
  state = tx.init(w)
  alone = [tx.init(x) for x in w]
  assert state.basis.shape == (3, 4, 4)
  for step in range(4):
    g = normal(3, 4, 6, seed=step)
    together, state = tx.update(g, state)
    for n in range(3):
      one, alone[n] = tx.update(g[n], alone[n])
      np.testing.assert_allclose(together[n], one, rtol=1e-4, atol=1e-5)
